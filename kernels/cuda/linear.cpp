// Linear layers (Kernels::linear_*): the products are our own where rows are few (few_rows_product.h) and cuBLASLt's
// elsewhere (matmul.h); those for gradients of weights wait for the end of backward (deferred_gradients.h).
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/matmul_operands.h"
#include "kernels/require.h"

namespace ember {

void CudaKernels::linear_forward(Tensor out, Tensor in, Tensor weight, Tensor bias) {
  require_forward_operands(out, in, weight, bias);
  const FewRowsProduct product{out, in, weight, bias, true};
  serves(product, device_) ? run(product, for_product()) : matmul_.forward(out, in, weight, bias);
}

void CudaKernels::linear_backward_input(Tensor din, Tensor dout, Tensor weight) {
  require_backward_input_operands(din, dout, weight);
  const FewRowsProduct product{din, dout, weight, {}, false};
  serves(product, device_) ? run(product, for_product()) : matmul_.backward_input(din, dout, weight);
}

void CudaKernels::linear_backward_weight(Tensor dweight, Tensor dbias, Tensor dout, Tensor in) {
  require(dbias.empty() || has_shape(dbias, 1, dout.cols), "linear_backward_weight: shape of dbias");
  deferred_.add_product(dweight, dout, in);
  if (!dbias.empty()) deferred_.add_columns(dbias, dout);
}

}  // namespace ember
