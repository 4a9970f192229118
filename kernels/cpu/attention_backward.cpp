// Attention, backward: tasks as in forward, the probabilities recomputed. With P the probabilities, M the dropout's
// multipliers (0 or 1 / (1 - p)) and S the scores of a head:
//   dV = (P M)ᵀ dO,  dP = M (dO Vᵀ),  dS = P (dP - rowsum(dP P)),  dQ = dS K / sqrt(D),  dK = dSᵀ Q / sqrt(D).
// 10 L² D operations for a sequence of length L.
#include <algorithm>

#include "kernels/cpu/attention_head.h"
#include "kernels/cpu/attention_probabilities.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/require.h"

namespace ember {
namespace {

struct Gradients {
  Tensor query, key, value, out;
};

void backward_head(const Gradients& d, const AttentionCall& call, const AttentionHead& head,
                   const AttentionScratch& scratch) {
  const std::int64_t length = head.length, stride = panel_stride(length), columns = whole_panels(length);
  const std::int64_t dim = call.dim, dim_stride = panel_stride(dim);
  const float *key = head.of_tokens(call.key), *value = head.of_tokens(call.value);
  pack_transposed(scratch.keys_transposed, key, call.key.stride, length, dim, call.scale);
  pack_transposed(scratch.values_transposed, value, call.value.stride, length, dim, 1);
  pack(scratch.keys, key, call.key.stride, length, dim, call.scale);
  for (std::int64_t begin = 0; begin < head.query_count; begin += kQueryRows) {
    const std::int64_t rows = std::min(kQueryRows, head.query_count - begin);
    const bool accumulate = begin > 0;
    const float* dout = head.of_queries(d.out) + begin * d.out.stride;
    pack(scratch.queries, head.of_queries(call.query) + begin * call.query.stride, call.query.stride, rows, dim,
         call.scale);
    pack(scratch.dout, dout, d.out.stride, rows, dim, 1);
    attention_probabilities(scratch, call, head, begin, rows);
    small_product(scratch.dscores, stride, {dout, d.out.stride, 1}, {scratch.values_transposed, stride}, rows, dim,
                  columns);
    softmax_backward(scratch.scores, scratch.dscores, call.dropout.active() ? scratch.multipliers : nullptr, stride,
                     rows, length);
    small_product(head.of_tokens(d.value), d.value.stride, {scratch.scores, 1, stride}, {scratch.dout, dim_stride},
                  length, rows, dim, accumulate);
    small_product(head.of_queries(d.query) + begin * d.query.stride, d.query.stride, {scratch.dscores, stride, 1},
                  {scratch.keys, dim_stride}, rows, length, dim);
    small_product(head.of_tokens(d.key), d.key.stride, {scratch.dscores, 1, stride}, {scratch.queries, dim_stride},
                  length, rows, dim, accumulate);
  }
}

}  // namespace

void CpuKernels::attention_backward(Tensor dquery, Tensor dkey, Tensor dvalue, Tensor dout, Tensor query, Tensor key,
                                    Tensor value, const Batch& batch, std::int64_t heads, std::int64_t positions,
                                    Queries queries, const Dropout& dropout) {
  const AttentionCall call(query, key, value, batch, heads, positions, queries, dropout);
  require(all_have_shape({dquery, dout}, query.rows, query.cols), "attention_backward: shape of dquery or dout");
  require(all_have_shape({dkey, dvalue}, key.rows, key.cols), "attention_backward: shape of dkey or dvalue");
  const Gradients gradients{dquery, dkey, dvalue, dout};
  for_each_head(call, true, scratch_, threads_, [&](const AttentionHead& head, const AttentionScratch& own) {
    backward_head(gradients, call, head, own);
  });
}

}  // namespace ember
