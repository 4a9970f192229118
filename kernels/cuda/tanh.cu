// The pooler's activation (Kernels::tanh_forward): activated = tanh(in + bias), out = dropout(activated); backward din
// = dropout's share of dout times (1 - activated²), from the activated value that was stored.  (B, C).
//
// Mapping as in gelu.cu, with 4 columns to a thread: one block of dropout's random words. Forward moves 6 B C bytes,
// backward as much; a few dozen operations an element. B is a batch, so both are a launch's latency and nothing else.
#include <array>

#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/dropout.cuh"
#include "kernels/require.h"
#include "runtime/cuda/launch.h"

namespace ember {
namespace {

template <int V>
__global__ void __launch_bounds__(kRowWarps* kWarpSize)
    tanh_kernel(Rows<__half> out, Rows<__half> activated, Rows<const __half> in, const float* bias, DropoutMask mask,
                int rows, int cols) {
  await_previous_grid();
  using Tile = ColumnTile<V>;
  const int c = Tile::column();
  if (c >= cols) return;
  float shift[V];
  load<V>(shift, bias + c);
  for (int row = Tile::first_row(); row < rows; row += Tile::row_step()) {
    float x[V];
    load<V>(x, in[row] + c);
#pragma unroll
    for (int j = 0; j < V; ++j) x[j] = tanhf(x[j] + shift[j]);
    store<V>(activated[row] + c, x);
    apply_dropout(x, mask, static_cast<std::int64_t>(row) * cols + c);
    store<V>(out[row] + c, x);
  }
}

template <int V>
__global__ void __launch_bounds__(kRowWarps* kWarpSize)
    tanh_backward_kernel(Rows<__half> din, float* parts, Rows<const __half> dout, Rows<const __half> activated,
                         DropoutMask mask, int rows, int cols, int stride) {
  await_previous_grid();
  using Tile = ColumnTile<V>;
  const int c = Tile::column();
  float totals[V] = {};
  if (c < cols) {
    for (int row = Tile::first_row(); row < rows; row += Tile::row_step()) {
      float y[V], dx[V];
      load<V>(y, activated[row] + c);
      load<V>(dx, dout[row] + c);
      apply_dropout(dx, mask, static_cast<std::int64_t>(row) * cols + c);
#pragma unroll
      for (int j = 0; j < V; ++j) {
        dx[j] *= 1.0f - y[j] * y[j];
        totals[j] += dx[j];
      }
      store<V>(din[row] + c, dx);
    }
  }
  Tile::write_part(parts, totals, cols, stride);
}

template <int V>
void forward(cudaStream_t stream, Tensor out, Tensor activated, Tensor in, Tensor bias, const Dropout& dropout) {
  launch_early("tanh", stream, tile_grid(V, out), tile_block(), 0, tanh_kernel<V>, rows_of<__half>(out),
               rows_of<__half>(activated), rows_of<const __half>(in), bias.f32(), DropoutMask(dropout),
               static_cast<int>(out.rows), static_cast<int>(out.cols));
}

template <int V>
void backward(cudaStream_t stream, Tensor din, float* parts, Tensor dout, Tensor activated, const Dropout& dropout) {
  launch_early("tanh_backward", stream, tile_grid(V, din.cols, part_blocks(din.rows)), tile_block(), 0,
               tanh_backward_kernel<V>, rows_of<__half>(din), parts, rows_of<const __half>(dout),
               rows_of<const __half>(activated), DropoutMask(dropout), static_cast<int>(din.rows),
               static_cast<int>(din.cols), static_cast<int>(part_stride(din.cols)));
}

}  // namespace

void CudaKernels::tanh_forward(Tensor out, Tensor activated, Tensor in, Tensor bias, const Dropout& dropout) {
  const std::int64_t rows = out.rows, cols = out.cols;
  require(all_have_shape({out, activated, in}, rows, cols, DType::f16) && has_shape(bias, 1, cols),
          "tanh_forward: shapes");
  if (out.empty()) return;
  vectorises(4, {out, activated, in, bias}) ? forward<4>(stream(), out, activated, in, bias, dropout)
                                            : forward<1>(stream(), out, activated, in, bias, dropout);
}

void CudaKernels::tanh_backward(Tensor din, Tensor dbias, Tensor dout, Tensor activated, const Dropout& dropout) {
  const std::int64_t rows = dout.rows, cols = dout.cols;
  require(all_have_shape({din, dout, activated}, rows, cols, DType::f16) && has_shape(dbias, 1, cols),
          "tanh_backward: shapes");
  const std::array sums{dbias};
  if (dout.empty()) return deferred_.add_parts(sums, nullptr, 0);
  float* parts = deferred_.keep_parts(part_blocks(rows), 1, cols);
  vectorises(4, {din, dout, activated}) ? backward<4>(stream(), din, parts, dout, activated, dropout)
                                        : backward<1>(stream(), din, parts, dout, activated, dropout);
  deferred_.add_parts(sums, parts, part_blocks(rows));
}

}  // namespace ember
