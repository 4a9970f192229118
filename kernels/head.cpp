// The head by its definition, for backends to which a call costs little.
#include "kernels/kernels.h"

namespace ember {

void Kernels::head_forward(Tensor logits, Tensor pooled, Tensor activated, Tensor in, Tensor bias, Tensor weight,
                           Tensor weight_bias, const Dropout& dropout) {
  tanh_forward(pooled, activated, in, bias, dropout);
  linear_forward(logits, pooled, weight, weight_bias);
}

void Kernels::head_backward(Tensor din, Tensor dbias, Tensor dlogits, Tensor activated, Tensor weight,
                            const Dropout& dropout) {
  linear_backward_input(din, dlogits, weight);
  tanh_backward(din, dbias, din, activated, dropout);
}

}  // namespace ember
