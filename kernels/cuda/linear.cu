// Linear layers (Kernels::linear_*): the products are cuBLASLt's (matmul.h); here only the column sums of dout, where
// the product does not leave them on the way.  (M, O).
//
// A thread has 4 columns, a block (32, kRowWarps) a tile of 128 columns and every gridDim.y-th group of kRowWarps rows,
// in two stages (column_sums.cuh). Reads 2 M O bytes; one addition an element.
#include <array>

#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/require.h"
#include "runtime/cuda/launch.h"

namespace ember {
namespace {

template <int V>
__global__ void __launch_bounds__(kRowWarps* kWarpSize)
    sum_columns_kernel(float* parts, Rows<const __half> in, int rows, int cols, int stride) {
  using Tile = ColumnTile<V>;
  const int c = Tile::column();
  float totals[V] = {};
  if (c < cols) {
    for (int row = Tile::first_row(); row < rows; row += Tile::row_step()) {
      float x[V];
      load<V>(x, in[row] + c);
#pragma unroll
      for (int j = 0; j < V; ++j) totals[j] += x[j];
    }
  }
  Tile::write_part(parts, totals, cols, stride);
}

}  // namespace

void CudaKernels::linear_forward(Tensor out, Tensor in, Tensor weight, Tensor bias) {
  matmul_.forward(out, in, weight, bias);
}

void CudaKernels::linear_backward_input(Tensor din, Tensor dout, Tensor weight, bool accumulate) {
  matmul_.backward_input(din, dout, weight, accumulate);
}

void CudaKernels::linear_backward_weight(Tensor dweight, Tensor dbias, Tensor dout, Tensor in) {
  if (matmul_.backward_weight(dweight, dbias, dout, in) || dbias.empty()) return;
  const std::array sums{dbias};
  if (dout.empty()) return add_parts(stream(), sums, nullptr, 0);
  const unsigned blocks = part_blocks(dout.rows);
  auto* parts = static_cast<float*>(scratch(part_bytes(blocks, 1, dout.cols)));
  const bool wide = vectorises(4, {dout});
  launch("sum_columns", stream(), tile_grid(wide ? 4 : 1, dout.cols, blocks), tile_block(), 0,
         wide ? sum_columns_kernel<4> : sum_columns_kernel<1>, parts, rows_of<const __half>(dout),
         static_cast<int>(dout.rows), static_cast<int>(dout.cols), static_cast<int>(part_stride(dout.cols)));
  add_parts(stream(), sums, parts, blocks);
}

}  // namespace ember
