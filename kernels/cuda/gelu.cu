// GELU after a bias, exact (Kernels::gelu_forward; Hendrycks and Gimpel 2016): gelu(x) = x Phi(x), gelu'(x) = Phi(x) +
// x phi(x) at x = in + bias.  (M, F).
//
// Phi(-|x|) is exp(-x² / 2) times a polynomial in t = 1 / (1 + 0.32 |x|), the form of Hastings, "Approximations for
// digital computers" (1955), with coefficients of the least relative error, 4.1e-7 (7e-6 with the roundings), a
// seventieth of f16's own. It keeps the digits of the left tail, and the density is at hand. With the library's erfc an
// element took 57 instructions, and on an H100 the kernel ran at the speed of those and not of memory.
//
// A thread has 8 columns, a block (32, kRowWarps) a tile of 256 columns and kRowWarps rows; backward's blocks take
// every gridDim.y-th group of rows and keep the column sums of dbias meanwhile (column_sums.cuh). Forward moves 4 M F
// bytes and does about 19 operations an element; backward 6 M F bytes, 4 bytes a column and group of rows, and about 23
// operations.
#include <array>

#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/require.h"
#include "runtime/cuda/launch.h"

namespace ember {
namespace {

// Of the standard normal distribution at x, its density without the factor 1 / sqrt(2 pi).
struct Normal {
  float bell, cumulative;

  __device__ explicit Normal(float x) {
    constexpr float kHalfLog2E = 0.72134752f;
    bell = exp2f(-kHalfLog2E * x * x);
    const float t = __fdividef(1.0f, fmaf(0.32f, fabsf(x), 1.0f));
    float series = 0.0344482176f;
    for (const float coefficient :
         {-0.122178085f, 0.105769105f, 0.0158235449f, 0.0972923934f, 0.113452688f, 0.127732426f, 0.127659917f})
      series = fmaf(series, t, coefficient);
    const float tail = bell * series * t;
    cumulative = x > 0 ? 1 - tail : tail;
  }
  __device__ float density() const { return 0.398942280f * bell; }
};

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
    for (int j = 0; j < V; ++j) {
      const float value = x[j] + shift[j];
      x[j] = value * Normal(value).cumulative;
    }
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
        const float value = x[j] + shift[j];
        const Normal normal(value);
        dx[j] *= normal.cumulative + value * normal.density();
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
  auto* parts = static_cast<float*>(deferred_.keep(part_bytes(part_blocks(rows), 1, cols)));
  vectorises(8, {din, dout, in, bias}) ? backward<8>(stream(), din, parts, dout, in, bias)
                                       : backward<1>(stream(), din, parts, dout, in, bias);
  deferred_.add_parts(sums, parts, part_blocks(rows));
}

}  // namespace ember
