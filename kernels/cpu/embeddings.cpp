// The input of the encoder: word + position + type, LayerNorm and dropout in one pass over the tokens. Backward is a
// pass over the tokens that leaves the gradient of the sum in memory, then sums of its rows: one task per word of the
// batch and one per position, each adding its rows in the order of the tokens.
#include <algorithm>
#include <array>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/dropout.h"
#include "kernels/cpu/layernorm_row.h"
#include "kernels/cpu/row_pass.h"
#include "kernels/require.h"

namespace ember {
namespace {

void check_batch(const Batch& batch, std::int64_t vocabulary, std::int64_t positions) {
  require(batch.max_length <= positions, "embeddings: a sequence longer than the table of positions");
  require(batch.tokens == 0 || batch.cu_seqlens[batch.sequences] == batch.tokens, "embeddings: lengths");
  for (std::int64_t n = 0; n < batch.tokens; ++n)
    require(batch.token_ids[n] >= 0 && batch.token_ids[n] < vocabulary, "embeddings: a token outside the vocabulary");
}

void add_tables(float* sum, const float* word, const float* position, const float* type, std::int64_t cols) {
#pragma omp simd
  for (std::int64_t c = 0; c < cols; ++c) sum[c] = word[c] + position[c] + type[c];
}

void multiply(float* out, const float* in, const float* factors, std::int64_t cols) {
#pragma omp simd
  for (std::int64_t c = 0; c < cols; ++c) out[c] = in[c] * factors[c];
}

void add_to(float* total, const float* row, std::int64_t cols) {
#pragma omp simd
  for (std::int64_t c = 0; c < cols; ++c) total[c] += row[c];
}

void sum_words(Tensor dword, Tensor dsum, const Batch& batch, int threads) {
  const std::int64_t cols = dsum.cols;
  parallel_for(batch.unique, useful_threads(threads, batch.unique, dsum.size()), [&](std::int64_t u) {
    float* total = dword.row(u);
    std::fill_n(total, cols, 0.0f);
    for (std::int64_t i = batch.unique_offsets[u]; i < batch.unique_offsets[u + 1]; ++i)
      add_to(total, dsum.row(batch.occurrences[i]), cols);
  });
}

void sum_positions(Tensor dposition, Tensor dsum, const Batch& batch, int threads) {
  const std::int64_t cols = dposition.cols;
  parallel_for(dposition.rows, useful_threads(threads, dposition.rows, dsum.size()), [&](std::int64_t place) {
    float* total = dposition.row(place);
    std::fill_n(total, cols, 0.0f);
    if (place >= batch.max_length) return;
    for (std::int64_t b = 0; b < batch.sequences; ++b) {
      const std::int64_t row = batch.cu_seqlens[b] + place;
      if (row < batch.cu_seqlens[b + 1]) add_to(total, dsum.row(row), cols);
    }
  });
}

}  // namespace

void CpuKernels::embeddings_forward(Tensor out, Tensor sum, Moments moments, const Batch& batch,
                                    const EmbeddingTensors& tables, const LayerNormTensors& norm, float epsilon,
                                    const Dropout& dropout) {
  const std::int64_t rows = batch.tokens, cols = out.cols;
  require(all_have_shape({out, sum}, rows, cols) && has_room(moments.mean, moments.rstd, rows) &&
              has_shape(tables.word, tables.word.rows, cols) &&
              has_shape(tables.position, tables.position.rows, cols) &&
              has_shape(tables.type, tables.type.rows, cols) && tables.type.rows > 0 &&
              all_have_shape({norm.weight, norm.bias}, 1, cols),
          "embeddings_forward: shapes");
  check_batch(batch, tables.word.rows, tables.position.rows);
  const RowPass pass(rows, cols, 1, threads_);
  pass.run(scratch(pass.scratch_bytes()), {}, [&](std::int64_t begin, std::int64_t end, const auto& vector) {
    const std::int32_t* next = std::upper_bound(batch.cu_seqlens, batch.cu_seqlens + batch.sequences, begin);
    for (std::int64_t n = begin; n < end; ++n) {
      while (next <= batch.cu_seqlens + batch.sequences && *next <= n) ++next;
      add_tables(sum.row(n), tables.word.row(batch.token_ids[n]), tables.position.row(n - next[-1]), tables.type.row(0),
                 cols);
      const RowMoments row = row_moments(sum.row(n), cols, epsilon);
      moments.mean.f32()[n] = row.mean;
      moments.rstd.f32()[n] = row.rstd;
      normalise_row(out.row(n), sum.row(n), row, norm.weight.f32(), norm.bias.f32(), cols);
      if (!dropout.active()) continue;
      dropout_multipliers(vector(0), n * cols, cols, dropout);
      multiply(out.row(n), out.row(n), vector(0), cols);
    }
  });
}

void CpuKernels::embeddings_backward(const EmbeddingTensors& dtables, const LayerNormTensors& dnorm, Tensor dsum,
                                     Tensor dout, Tensor dbranch, Tensor sum, Moments moments, const Batch& batch,
                                     const LayerNormTensors& norm, const Dropout& dropout) {
  const std::int64_t rows = batch.tokens, cols = dout.cols;
  require(all_have_shape({dsum, dout, sum}, rows, cols) && (dbranch.empty() || has_shape(dbranch, rows, cols)) &&
              has_room(moments.mean, moments.rstd, rows) && has_shape(dtables.word, batch.unique, cols) &&
              has_shape(dtables.position, dtables.position.rows, cols) &&
              has_shape(dtables.type, dtables.type.rows, cols) && dtables.type.rows > 0 &&
              all_have_shape({dnorm.weight, dnorm.bias, norm.weight}, 1, cols),
          "embeddings_backward: shapes");
  require(batch.max_length <= dtables.position.rows, "embeddings: a sequence longer than the table of positions");
  const std::array sums{dnorm.weight, dnorm.bias, dtables.type.row_block(0, 1)};
  const RowPass pass(rows, cols, 4, threads_);
  pass.run(scratch(pass.scratch_bytes()), sums, [&](std::int64_t begin, std::int64_t end, const auto& vector) {
    for (std::int64_t n = begin; n < end; ++n) {
      const float* dy = output_gradient(dsum.row(n), dout, dbranch, n);
      if (dropout.active()) {
        dropout_multipliers(vector(3), n * cols, cols, dropout);
        multiply(vector(3), dy, vector(3), cols);
        dy = vector(3);
      }
      const RowMoments row{moments.mean.f32()[n], moments.rstd.f32()[n]};
      normalise_row_backward(dsum.row(n), vector(0), vector(1), dy, sum.row(n), row, norm.weight.f32(), cols);
      add_to(vector(2), dsum.row(n), cols);
    }
  });
  for (std::int64_t t = 1; t < dtables.type.rows; ++t) std::fill_n(dtables.type.row(t), cols, 0.0f);
  sum_words(dtables.word, dsum, batch, threads_);
  sum_positions(dtables.position, dsum, batch, threads_);
}

}  // namespace ember
