// Working copies of weights (Kernels::round_weights): f32 to f16, to the nearest even.  (O, I).
//
// A thread has 4 columns, a block (32, kRowWarps) 128 columns of kRowWarps rows. Moves 6 bytes an element. Once per
// run: after that AdamW writes the copies.
#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/require.h"
#include "runtime/cuda/launch.h"

namespace ember {
namespace {

template <int V>
__global__ void __launch_bounds__(kRowWarps* kWarpSize)
    round_weights_kernel(Rows<__half> working, Rows<const float> weight, int rows, int cols) {
  await_previous_grid();
  using Tile = ColumnTile<V>;
  const int c = Tile::column();
  if (c >= cols) return;
  for (int row = Tile::first_row(); row < rows; row += Tile::row_step()) {
    float x[V];
    load<V>(x, weight[row] + c);
    store<V>(working[row] + c, x);
  }
}

}  // namespace

void CudaKernels::round_weights(Tensor working, Tensor weight) {
  require(has_shape(weight, working.rows, working.cols), "round_weights: shapes");
  require(working.dtype == DType::f16, "round_weights: the working copy of a GPU is f16");
  if (working.empty()) return;
  const bool wide = vectorises(4, {working, weight});
  launch_early("round_weights", stream(), tile_grid(wide ? 4 : 1, weight), tile_block(), 0,
               wide ? round_weights_kernel<4> : round_weights_kernel<1>, rows_of<__half>(working),
               rows_of<const float>(weight), static_cast<int>(working.rows), static_cast<int>(working.cols));
  settled_ = false;
}

}  // namespace ember
