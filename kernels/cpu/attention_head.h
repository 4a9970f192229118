// What attention's forward and backward share: one head of one sequence, a thread's scratch, and rows of probabilities.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/attention_probabilities.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/small_product.h"
#include "kernels/cpu/team.h"
#include "kernels/kernels.h"
#include "runtime/arena.h"

namespace ember {

// Queries handled together: few enough that their scores against 512 keys stay in the second-level cache.
constexpr std::int64_t kQueryRows = kProbabilityRows;

// What is the same for every head of a call.
struct AttentionCall {
  // Throws std::logic_error where a shape does not fit the batch.
  AttentionCall(Tensor query, Tensor key, Tensor value, const Batch& batch, std::int64_t heads, std::int64_t positions,
                Queries queries, const Dropout& dropout);
  std::int64_t pairs() const { return batch.sequences * heads; }

  Tensor query, key, value;
  const Batch& batch;
  std::int64_t heads, dim;
  std::int64_t row_elements;  // of the dropout stream, from one (query, head) to the next
  Queries queries;
  const Dropout& dropout;
  float scale;  // 1 / sqrt(D)
};

// One head of one sequence.
struct AttentionHead {
  AttentionHead(const AttentionCall& call, std::int64_t pair);

  // The head's first element in a tensor with a row per token, or per query.
  float* of_tokens(const Tensor& tensor) const { return tensor.row(first_token) + column; }
  float* of_queries(const Tensor& tensor) const { return tensor.row(first_query) + column; }

  std::int64_t head, column;
  std::int64_t first_token, length;
  std::int64_t first_query, query_count;
};

// A thread's memory, in rows of panel_stride(L) or panel_stride(D) floats. Backward's own parts are null in forward.
struct AttentionScratch {
  AttentionScratch(Arena& arena, const AttentionCall& call, bool backward);

  float *keys_transposed, *values_transposed;  // (D, L)
  float *keys, *values;                        // (L, D)
  float *queries, *dout;                       // (kQueryRows, D)
  float *scores, *dscores, *multipliers;       // (kQueryRows, L)
};

// work(head, scratch of its thread) for every head of a call. They are handed out as threads become free, because
// lengths differ; several at once, because neighbouring heads share cache lines.
template <typename Work>
void for_each_head(const AttentionCall& call, bool backward, Scratch& scratch, int threads, const Work& work) {
  Arena measure;
  AttentionScratch(measure, call, backward);
  const std::size_t bytes = measure.used();
  auto* memory = static_cast<std::byte*>(scratch(bytes * static_cast<std::size_t>(threads)));
  in_team(threads, [&](const Team& team) {
    Arena arena(memory + bytes * static_cast<std::size_t>(team.thread()), bytes);
    const AttentionScratch own(arena, call, backward);
    const std::int64_t together = std::max<std::int64_t>(1, call.pairs() / (8 * threads));
    team.deal(call.pairs(), together, [&](std::int64_t pair) { work(AttentionHead(call, pair), own); });
  });
}

// to[r][c] = scale from[r][c], and its transpose to[c][r]. Rows of `to` are filled with zeros to the end of their
// panel: what lay there before may be denormal numbers, at which Intel's processors stop for a hundred cycles.
void pack(float* to, const float* from, std::int64_t from_stride, std::int64_t rows, std::int64_t cols, float scale);
void pack_transposed(float* to, const float* from, std::int64_t from_stride, std::int64_t rows, std::int64_t cols,
                     float scale);

// scratch.scores = the probabilities before dropout of the head's queries [begin, begin + rows), and with active
// dropout scratch.multipliers = what it multiplies them by. From the last key to the end of its panel the probabilities
// are zero, the multipliers some finite numbers.
void attention_probabilities(const AttentionScratch& scratch, const AttentionCall& call, const AttentionHead& head,
                             std::int64_t begin, std::int64_t rows);

}  // namespace ember
