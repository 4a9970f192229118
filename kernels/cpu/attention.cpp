// Attention, forward: one task per head of a sequence, so that a thread works on a few kilobytes that stay in its cache
// and the probabilities of 36 queries at a time are all that exist of them. 4 L² D operations for a sequence of length
// L, and an exponential and a random number per probability.
#include <algorithm>

#include "kernels/cpu/attention_head.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/require.h"

namespace ember {
namespace {

void forward_head(Tensor out, const AttentionCall& call, const AttentionHead& head, const AttentionScratch& scratch) {
  const std::int64_t length = head.length, stride = panel_stride(length), dim = call.dim;
  pack_transposed(scratch.keys_transposed, head.of_tokens(call.key), call.key.stride, length, dim, call.scale);
  pack(scratch.values, head.of_tokens(call.value), call.value.stride, length, dim, 1);
  for (std::int64_t begin = 0; begin < head.query_count; begin += kQueryRows) {
    const std::int64_t rows = std::min(kQueryRows, head.query_count - begin);
    attention_probabilities(scratch, call, head, begin, rows);
    for (std::int64_t r = 0; call.dropout.active() && r < rows; ++r) {
#pragma omp simd
      for (std::int64_t j = r * stride; j < r * stride + length; ++j) scratch.scores[j] *= scratch.multipliers[j];
    }
    small_product(head.of_queries(out) + begin * out.stride, out.stride, {scratch.scores, stride, 1},
                  {scratch.values, panel_stride(dim)}, rows, length, dim);
  }
}

}  // namespace

void CpuKernels::attention_forward(Tensor out, Tensor query, Tensor key, Tensor value, const Batch& batch,
                                   std::int64_t heads, std::int64_t positions, Queries queries,
                                   const Dropout& dropout) {
  const AttentionCall call(query, key, value, batch, heads, positions, queries, dropout);
  require(has_shape(out, query.rows, query.cols), "attention_forward: shape of the output");
  for_each_head(call, false, scratch_, threads_,
                [&](const AttentionHead& head, const AttentionScratch& own) { forward_head(out, call, head, own); });
}

}  // namespace ember
