// The first row of each sequence, all that the pooler reads (Kernels::gather_first), and its backward, which adds to
// those rows.  (B, C) of (N, C).
//
// A thread has 8 columns of one sequence, a block (32, kRowWarps) 256 columns of kRowWarps sequences. Forward moves
// 4 B C bytes, backward 6 B C.
#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/require.h"
#include "runtime/cuda/launch.h"

namespace ember {
namespace {

template <int V>
__global__ void __launch_bounds__(kRowWarps* kWarpSize)
    gather_first_kernel(Rows<__half> out, Rows<const __half> in, const std::int32_t* cu_seqlens, int sequences,
                        int cols) {
  await_previous_grid();
  using Tile = ColumnTile<V>;
  const int c = Tile::column();
  if (c >= cols) return;
  for (int b = Tile::first_row(); b < sequences; b += Tile::row_step()) {
    float x[V];
    load<V>(x, in[cu_seqlens[b]] + c);
    store<V>(out[b] + c, x);
  }
}

template <int V>
__global__ void __launch_bounds__(kRowWarps* kWarpSize)
    gather_first_backward_kernel(Rows<__half> din, Rows<const __half> dout, const std::int32_t* cu_seqlens,
                                 int sequences, int cols) {
  await_previous_grid();
  using Tile = ColumnTile<V>;
  const int c = Tile::column();
  if (c >= cols) return;
  for (int b = Tile::first_row(); b < sequences; b += Tile::row_step()) {
    __half* to = din[cu_seqlens[b]] + c;
    float x[V], add[V];
    load<V>(x, to);
    load<V>(add, dout[b] + c);
#pragma unroll
    for (int j = 0; j < V; ++j) x[j] += add[j];
    store<V>(to, x);
  }
}

// A sequence without tokens has no first row; that, in device memory, is the caller's to keep out.
void check_shapes(const Tensor& of_sequences, const Tensor& of_tokens, const Batch& batch) {
  require(has_shape(of_sequences, batch.sequences, of_tokens.cols, DType::f16) &&
              has_shape(of_tokens, batch.tokens, of_sequences.cols, DType::f16),
          "gather_first: shapes");
  require(batch.tokens >= batch.sequences, "gather_first: a sequence without tokens");
}

}  // namespace

void CudaKernels::gather_first(Tensor out, Tensor in, const Batch& batch) {
  check_shapes(out, in, batch);
  if (out.empty()) return;
  const bool wide = vectorises(8, {out, in});
  launch_early("gather_first", stream(), tile_grid(wide ? 8 : 1, out), tile_block(), 0,
               wide ? gather_first_kernel<8> : gather_first_kernel<1>, rows_of<__half>(out), rows_of<const __half>(in),
               batch.cu_seqlens, static_cast<int>(batch.sequences), static_cast<int>(out.cols));
}

void CudaKernels::gather_first_backward(Tensor din, Tensor dout, const Batch& batch) {
  check_shapes(dout, din, batch);
  if (dout.empty()) return;
  const bool wide = vectorises(8, {din, dout});
  launch_early("gather_first_backward", stream(), tile_grid(wide ? 8 : 1, dout), tile_block(), 0,
               wide ? gather_first_backward_kernel<8> : gather_first_backward_kernel<1>, rows_of<__half>(din),
               rows_of<const __half>(dout), batch.cu_seqlens, static_cast<int>(batch.sequences),
               static_cast<int>(dout.cols));
}

}  // namespace ember
