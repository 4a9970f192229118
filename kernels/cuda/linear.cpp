// Linear layers (Kernels::linear_*): the products are cuBLASLt's (matmul.h), those for gradients of weights wait for
// the end of backward (deferred_gradients.h).
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/require.h"

namespace ember {

void CudaKernels::linear_forward(Tensor out, Tensor in, Tensor weight, Tensor bias) {
  matmul_.forward(out, in, weight, bias);
}

void CudaKernels::linear_backward_input(Tensor din, Tensor dout, Tensor weight) {
  matmul_.backward_input(din, dout, weight);
}

void CudaKernels::linear_backward_weight(Tensor dweight, Tensor dbias, Tensor dout, Tensor in) {
  require(dbias.empty() || has_shape(dbias, 1, dout.cols), "linear_backward_weight: shape of dbias");
  deferred_.add_product(dweight, dout, in);
  if (!dbias.empty()) deferred_.add_columns(dbias, dout);
}

}  // namespace ember
