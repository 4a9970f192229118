#include "kernels/cpu/attention_head.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/dropout.h"
#include "kernels/require.h"
#include "runtime/ceil_div.h"

namespace ember {

AttentionCall::AttentionCall(Tensor query, Tensor key, Tensor value, const Batch& batch, std::int64_t heads,
                             std::int64_t positions, Queries queries, const Dropout& dropout)
    : query(query), key(key), value(value), batch(batch), heads(heads), queries(queries), dropout(dropout) {
  require(heads > 0 && query.cols % heads == 0, "attention: the heads do not divide the columns");
  const std::int64_t rows = queries == Queries::all ? batch.tokens : batch.sequences;
  require(has_shape(query, rows, query.cols), "attention: shape of the query");
  require(all_have_shape({key, value}, batch.tokens, query.cols), "attention: shape of the key or value");
  require(batch.max_length <= positions, "attention: a sequence is longer than the positions");
  for (std::int64_t b = 0; b < batch.sequences; ++b) {
    const std::int64_t length = batch.cu_seqlens[b + 1] - batch.cu_seqlens[b];
    require(length > 0 && length <= batch.max_length, "attention: length of a sequence");
  }
  dim = query.cols / heads;
  row_elements = round_up(positions, 4);
  scale = 1 / std::sqrt(static_cast<float>(dim));
}

AttentionHead::AttentionHead(const AttentionCall& call, std::int64_t pair) {
  const std::int64_t sequence = pair / call.heads;
  head = pair % call.heads;
  column = head * call.dim;
  first_token = call.batch.cu_seqlens[sequence];
  length = call.batch.cu_seqlens[sequence + 1] - first_token;
  first_query = call.queries == Queries::all ? first_token : sequence;
  query_count = call.queries == Queries::all ? length : 1;
}

AttentionScratch::AttentionScratch(Arena& arena, const AttentionCall& call, bool backward) {
  const std::int64_t length = panel_stride(call.batch.max_length), dim = panel_stride(call.dim);
  const auto take = [&arena](bool needed, std::int64_t rows, std::int64_t cols) -> float* {
    return needed ? static_cast<float*>(arena.take(static_cast<std::size_t>(rows * cols) * sizeof(float))) : nullptr;
  };
  keys_transposed = take(true, call.dim, length);
  values_transposed = take(backward, call.dim, length);
  keys = take(backward, call.batch.max_length, dim);
  values = take(!backward, call.batch.max_length, dim);
  queries = take(backward, kQueryRows, dim);
  dout = take(backward, kQueryRows, dim);
  scores = take(true, kQueryRows, length);
  dscores = take(backward, kQueryRows, length);
  multipliers = take(call.dropout.active(), kQueryRows, length);
  // Their rows' padding is multiplied by zeros, written or not: it must not hold the bits of a NaN.
  if (multipliers != nullptr) std::fill_n(multipliers, kQueryRows * length, 0.0f);
}

void pack(float* to, const float* from, std::int64_t from_stride, std::int64_t rows, std::int64_t cols, float scale) {
  const std::int64_t stride = panel_stride(cols);
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t begin = 0; begin < cols; begin += kPanel) {
      const float* panel = from + r * from_stride + begin;
      const int width = static_cast<int>(std::min(kPanel, cols - begin));
#pragma omp simd
      for (int j = 0; j < kPanel; ++j) to[r * stride + begin + j] = j < width ? scale * panel[j] : 0.0f;
    }
}

void pack_transposed(float* to, const float* from, std::int64_t from_stride, std::int64_t rows, std::int64_t cols,
                     float scale) {
  constexpr std::int64_t kTogether = 8;  // rows of `from`, whose elements of one column are stored as one vector
  const std::int64_t stride = panel_stride(rows);
  std::int64_t r = 0;
  for (; r + kTogether <= rows; r += kTogether)
    for (std::int64_t c = 0; c < cols; ++c) {
#pragma omp simd
      for (std::int64_t i = r; i < r + kTogether; ++i) to[c * stride + i] = scale * from[i * from_stride + c];
    }
  for (; r < rows; ++r)
    for (std::int64_t c = 0; c < cols; ++c) to[c * stride + r] = scale * from[r * from_stride + c];
  const int width = static_cast<int>(rows - (whole_panels(rows) - kPanel));
  for (std::int64_t c = 0; c < cols; ++c) {
    float* last = to + c * stride + rows - width;
#pragma omp simd
    for (int j = 0; j < kPanel; ++j)
      if (j >= width) last[j] = 0;
  }
}

void attention_probabilities(const AttentionScratch& scratch, const AttentionCall& call, const AttentionHead& head,
                             std::int64_t begin, std::int64_t rows) {
  const std::int64_t stride = panel_stride(head.length), columns = whole_panels(head.length);
  const float* query = head.of_queries(call.query) + begin * call.query.stride;
  small_product(scratch.scores, stride, {query, call.query.stride, 1}, {scratch.keys_transposed, stride}, rows,
                call.dim, columns);
  softmax(scratch.scores, stride, rows, head.length);
  if (!call.dropout.active()) return;
  const std::int64_t first = ((head.first_token + begin) * call.heads + head.head) * call.row_elements;
  dropout_multiplier_rows(scratch.multipliers, stride, rows, first, call.heads * call.row_elements, head.length,
                          call.dropout);
}

}  // namespace ember
