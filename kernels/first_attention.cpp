// Attention of the first rows from the rows that keys and values are products of, for backends whose products are
// faster than doing without them.
#include "kernels/kernels.h"

namespace ember {

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
  linear_backward_input(din, dkept, weight, false);
}

}  // namespace ember
