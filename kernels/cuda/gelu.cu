// GELU after a bias, exact (Kernels::gelu_forward; Hendrycks and Gimpel 2016): gelu(x) = x Phi(x), gelu'(x) = Phi(x) +
// x phi(x) at x = in + bias.  (M, F).
//
// A thread has 8 columns, a block (32, kRowWarps) a tile of 256 columns and kRowWarps rows; backward's blocks take
// every gridDim.y-th group of rows and keep the column sums of dbias meanwhile (column_sums.cuh). Forward moves 4 M F
// bytes and does about 19 operations an element; backward 6 M F bytes, 4 bytes a column and group of rows, and about 23
// operations.
#include <array>

#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/gelu.cuh"
#include "kernels/require.h"
#include "runtime/cuda/launch.h"

namespace ember {
namespace {

template <int V>
__global__ void __launch_bounds__(kRowWarps* kWarpSize)
    gelu_kernel(Rows<__half> out, Rows<const __half> in, const float* bias, int rows, int cols) {
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
    for (int j = 0; j < V; ++j) x[j] = gelu(x[j] + shift[j]);
    store<V>(out[row] + c, x);
  }
}

template <int V>
__global__ void __launch_bounds__(kRowWarps* kWarpSize)
    gelu_backward_kernel(Rows<__half> din, float* parts, Rows<const __half> dout, Rows<const __half> in,
                         const float* bias, int rows, int cols, int stride) {
  await_previous_grid();
  using Tile = ColumnTile<V>;
  const int c = Tile::column();
  float totals[V] = {};
  if (c < cols) {
    float shift[V];
    load<V>(shift, bias + c);
    for (int row = Tile::first_row(); row < rows; row += Tile::row_step()) {
      float x[V], dx[V];
      load<V>(x, in[row] + c);
      load<V>(dx, dout[row] + c);
#pragma unroll
      for (int j = 0; j < V; ++j) {
        dx[j] *= gelu_slope(x[j] + shift[j]);
        totals[j] += dx[j];
      }
      store<V>(din[row] + c, dx);
    }
  }
  Tile::write_part(parts, totals, cols, stride);
}

template <int V>
void forward(cudaStream_t stream, Tensor out, Tensor in, Tensor bias) {
  launch_early("gelu", stream, tile_grid(V, out), tile_block(), 0, gelu_kernel<V>, rows_of<__half>(out),
               rows_of<const __half>(in), bias.f32(), static_cast<int>(out.rows), static_cast<int>(out.cols));
}

template <int V>
void backward(cudaStream_t stream, Tensor din, float* parts, Tensor dout, Tensor in, Tensor bias) {
  launch_early("gelu_backward", stream, tile_grid(V, din.cols, part_blocks(din.rows)), tile_block(), 0,
               gelu_backward_kernel<V>, rows_of<__half>(din), parts, rows_of<const __half>(dout),
               rows_of<const __half>(in), bias.f32(), static_cast<int>(din.rows), static_cast<int>(din.cols),
               static_cast<int>(part_stride(din.cols)));
}

}  // namespace

void CudaKernels::gelu_forward(Tensor out, Tensor in, Tensor bias) {
  const std::int64_t rows = out.rows, cols = out.cols;
  require(all_have_shape({out, in}, rows, cols, DType::f16) && has_shape(bias, 1, cols), "gelu_forward: shapes");
  if (out.empty()) return;
  vectorises(8, {out, in, bias}) ? forward<8>(stream(), out, in, bias) : forward<1>(stream(), out, in, bias);
}

void CudaKernels::gelu_backward(Tensor din, Tensor dbias, Tensor dout, Tensor in, Tensor bias) {
  const std::int64_t rows = dout.rows, cols = dout.cols;
  require(all_have_shape({din, dout, in}, rows, cols, DType::f16) && all_have_shape({dbias, bias}, 1, cols, DType::f32),
          "gelu_backward: shapes");
  const std::array sums{dbias};
  if (dout.empty()) return deferred_.add_parts(sums, nullptr, 0);
  float* parts = deferred_.keep_parts(part_blocks(rows), 1, cols);
  vectorises(8, {din, dout, in, bias}) ? backward<8>(stream(), din, parts, dout, in, bias)
                                       : backward<1>(stream(), din, parts, dout, in, bias);
  deferred_.add_parts(sums, parts, part_blocks(rows));
}

}  // namespace ember
