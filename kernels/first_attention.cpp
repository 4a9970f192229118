// Attention of the first rows by its definition: from the rows that keys and values are products of, for backends whose
// products are faster than doing without them; and from the rows that queries are products of, too.
#include "kernels/kernels.h"
#include "kernels/require.h"

namespace ember {
namespace {

// Where queries (B, C), and keys and values (N, 2C), or what is kept of them, lie in memory of (N, 3C).
struct QueriesAndRest {
  QueriesAndRest(Tensor memory, const Batch& batch) {
    require(memory.contiguous() && memory.rows == batch.tokens && memory.cols % 3 == 0, "cls_attention: kept's shape");
    require(batch.tokens >= batch.sequences, "cls_attention: a sequence without tokens");
    const std::int64_t c = memory.cols / 3;
    const Tensor line = vector(memory.data, memory.size(), memory.dtype);
    queries = matrix(memory.data, batch.sequences, c, memory.dtype);
    rest = matrix(line.columns(queries.size(), 0).data, batch.tokens, 2 * c, memory.dtype);
  }
  Tensor queries, rest;
};

}  // namespace

void Kernels::first_attention_forward(Tensor out, Tensor kept, Tensor query, Tensor in, Tensor weight, Tensor bias,
                                      const Batch& batch, std::int64_t heads, std::int64_t positions,
                                      const Dropout& dropout) {
  const std::int64_t c = query.cols;
  linear_forward(kept, in, weight, bias);
  attention_forward(out, query, kept.columns(0, c), kept.columns(c, c), batch, heads, positions, Queries::first,
                    dropout);
}

void Kernels::first_attention_backward(Tensor dquery, Tensor din, Tensor dweight, Tensor dbias, Tensor dkept,
                                       Tensor dout, Tensor kept, Tensor query, Tensor in, Tensor weight,
                                       Tensor /*bias*/, const Batch& batch, std::int64_t heads, std::int64_t positions,
                                       const Dropout& dropout) {
  const std::int64_t c = query.cols;
  attention_backward(dquery, dkept.columns(0, c), dkept.columns(c, c), dout, query, kept.columns(0, c),
                     kept.columns(c, c), batch, heads, positions, Queries::first, dropout);
  linear_backward_weight(dweight, dbias, dkept, in);
  linear_backward_input(din, dkept, weight);
}

void Kernels::cls_attention_forward(Tensor out, Tensor first, Tensor kept, Tensor in, Tensor weight, Tensor bias,
                                    const Batch& batch, std::int64_t heads, std::int64_t positions,
                                    const Dropout& dropout) {
  const std::int64_t c = in.cols;
  const QueriesAndRest held(kept, batch);
  gather_first(first, in, batch);
  linear_forward(held.queries, first, weight.row_block(0, c), bias.columns(0, c));
  first_attention_forward(out, held.rest, held.queries, in, weight.row_block(c, 2 * c), bias.columns(c, 2 * c), batch,
                          heads, positions, dropout);
}

Tensor Kernels::cls_attention_backward(Tensor din, Tensor /*dspread*/, Tensor dweight, Tensor dbias, Tensor dkept,
                                       Tensor dfirst, Tensor dout, Tensor kept, Tensor first, Tensor in, Tensor weight,
                                       Tensor bias, const Batch& batch, std::int64_t heads, std::int64_t positions,
                                       const Dropout& dropout) {
  const std::int64_t c = in.cols;
  const QueriesAndRest held(kept, batch), gradients(dkept, batch);
  first_attention_backward(gradients.queries, din, dweight.row_block(c, 2 * c), dbias.columns(c, 2 * c), gradients.rest,
                           dout, held.rest, held.queries, in, weight.row_block(c, 2 * c), bias.columns(c, 2 * c), batch,
                           heads, positions, dropout);
  linear_backward_weight(dweight.row_block(0, c), dbias.columns(0, c), gradients.queries, first);
  gather_first_backward(din, dfirst, batch);
  linear_backward_input(dfirst, gradients.queries, weight.row_block(0, c));
  gather_first_backward(din, dfirst, batch);
  return {};
}

}  // namespace ember
