// The input of the encoder (Kernels::embeddings_forward; Devlin et al. 2019, section 3): word + position + type,
// LayerNorm and dropout in one pass over the tokens.  (N, C).
//
//   forward    sum, rounded to f16; out = dropout(LayerNorm(sum)), of the rounded sum as in residual_layernorm.cu.
//   backward   one pass leaves dsum, the gradient of sum, and the parts of three column sums: the LayerNorm's two and
//              type row 0's. The rows of dsum are added with the other gradients that wait (token_sums.cuh).
//
// The passes: one warp per token or more, as in residual_layernorm.cu; which sequence it belongs to, a binary search in
// cu_seqlens finds.
// Forward reads two rows of f32 and writes two of f16 (12 N C bytes; the type's row and the norm stay in cache), about
// 12 operations an element and 25 for dropout. Backward moves 8 N C bytes in the pass; about 23 operations an element,
// 25 for dropout.
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/dropout.cuh"
#include "kernels/cuda/layernorm_row.cuh"
#include "kernels/cuda/token_sums.cuh"
#include "kernels/require.h"
#include "runtime/cuda/launch.h"

namespace ember {
namespace {

struct Forward {
  Rows<__half> out, sum;
  float *mean, *rstd;
  Sequences sequences;
  Rows<const float> word, position;
  const float* type;
  LayerNormParameters norm;
  DropoutMask mask;
  int cols;
};

template <int V, int N, int W>
__global__ void __launch_bounds__(kRowWarps* kWarpSize) embeddings_kernel(Forward a) {
  await_previous_grid();
  const int n = static_cast<int>(blockIdx.x) * kBlockRows<W> + row_in_block<W>();
  if (n >= a.sequences.tokens) return;
  const float* word = a.word[a.sequences.token_ids[n]];
  __half *out = a.out[n], *sum = a.sum[n];
  Vector<V> x[kHeld<N>], of_positions[kHeld<N>];
  // All are asked for before the first is stored, and the word's before its place is looked for.
  if (N > 0) for_each_vector<V, N, W>(a.cols, [&](int i, int c) { load<V>(x[i], word + c); });
  const float* position = a.position[a.sequences.place(n)];
  if (N > 0) for_each_vector<V, N, W>(a.cols, [&](int i, int c) { load<V>(of_positions[i], position + c); });
  for_each_vector<V, N, W>(a.cols, [&](int i, int c) {
    if (N == 0) load<V>(x[i], word + c), load<V>(of_positions[i], position + c);
    float of_type[V];
    const float(&of_position)[V] = of_positions[i];
    load<V>(of_type, a.type + c);
#pragma unroll
    for (int j = 0; j < V; ++j) x[i][j] += of_position[j] + of_type[j];
    store<V>(sum + c, x[i]);
    round_to_half(x[i]);
  });
  normalise_row<V, N, W>(x, sum, a.cols, a.mean + n, a.rstd + n, a.norm, [&](int c, float(&y)[V]) {
    apply_dropout(y, a.mask, static_cast<std::int64_t>(n) * a.cols + c);
    store<V>(out + c, y);
  });
}

template <int V, int N, int W>
__global__ void __launch_bounds__(kRowWarps* kWarpSize)
    embeddings_backward_kernel(LayerNormBackward a, Rows<__half> dsum, DropoutMask mask) {
  await_previous_grid();
  normalise_backward<V, N, W>(
      a, [&](std::int64_t row, int c, float(&dy)[V]) { apply_dropout(dy, mask, row * a.cols + c); },
      [&](std::int64_t row, int c, const float(&dx)[V]) { store<V>(dsum[row] + c, dx); });
}

}  // namespace

void CudaKernels::embeddings_forward(Tensor out, Tensor sum, Moments moments, const Batch& batch,
                                     const EmbeddingTensors& tables, const LayerNormTensors& norm, float epsilon,
                                     const Dropout& dropout) {
  const std::int64_t rows = batch.tokens, cols = out.cols;
  require(all_have_shape({out, sum}, rows, cols, DType::f16) && has_room(moments.mean, moments.rstd, rows) &&
              has_shape(tables.word, tables.word.rows, cols) &&
              has_shape(tables.position, tables.position.rows, cols) &&
              has_shape(tables.type, tables.type.rows, cols) && tables.type.rows > 0 &&
              all_have_shape({norm.weight, norm.bias}, 1, cols, DType::f32),
          "embeddings_forward: shapes");
  require(batch.max_length <= tables.position.rows, "embeddings: a sequence longer than the table of positions");
  if (out.empty()) return;
  const Forward a{rows_of<__half>(out),
                  rows_of<__half>(sum),
                  moments.mean.f32(),
                  moments.rstd.f32(),
                  Sequences(batch),
                  rows_of<const float>(tables.word),
                  rows_of<const float>(tables.position),
                  tables.type.f32(),
                  {norm.weight.f32(), norm.bias.f32(), epsilon},
                  DropoutMask(dropout),
                  static_cast<int>(cols)};
  const bool aligned =
      vectorises(4, {out, sum, tables.word, tables.position, tables.type.row_block(0, 1), norm.weight, norm.bias});
  with_row_layout(cols, aligned, [&](auto v, auto n, auto w) {
    launch_early("embeddings", stream(), dim3(blocks_for(rows, kBlockRows<w()>)), dim3(kRowWarps * kWarpSize), 0,
                 embeddings_kernel<v(), n(), w()>, a);
  });
  settled_ = true;
}

void CudaKernels::embeddings_backward(const EmbeddingTensors& dtables, const LayerNormTensors& dnorm, Tensor dsum,
                                      Tensor dout, Tensor dbranch, Tensor sum, Moments moments, const Batch& batch,
                                      const LayerNormTensors& norm, const Dropout& dropout) {
  const std::int64_t rows = batch.tokens, cols = dout.cols;
  require(all_have_shape({dsum, dout, sum}, rows, cols, DType::f16) &&
              (dbranch.empty() || has_shape(dbranch, rows, cols, DType::f16)) &&
              has_room(moments.mean, moments.rstd, rows) && has_shape(dtables.word, batch.unique, cols) &&
              has_shape(dtables.position, dtables.position.rows, cols) &&
              has_shape(dtables.type, dtables.type.rows, cols) && dtables.type.rows > 0 &&
              all_have_shape({dnorm.weight, dnorm.bias, norm.weight}, 1, cols, DType::f32),
          "embeddings_backward: shapes");
  require(batch.max_length <= dtables.position.rows, "embeddings: a sequence longer than the table of positions");
  layernorm_backward(deferred_, {dnorm.weight, dnorm.bias, dtables.type.row_block(0, 1)}, dout, dbranch, sum, moments,
                     norm.weight, vectorises(4, {dsum, dout, dbranch, sum, norm.weight}),
                     [&](auto v, auto n, auto w, dim3 blocks, std::size_t shared_bytes, const LayerNormBackward& a) {
                       launch_early("embeddings_backward", stream(), blocks, dim3(kRowWarps * kWarpSize), shared_bytes,
                                    embeddings_backward_kernel<v(), n(), w()>, a, rows_of<__half>(dsum),
                                    DropoutMask(dropout));
                     });
  deferred_.add_tokens(dtables, dsum, batch);
}

}  // namespace ember
