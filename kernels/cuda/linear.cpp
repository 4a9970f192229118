// Linear layers (Kernels::linear_*): the products are our own where rows are few (few_rows_product.h) and cuBLASLt's
// elsewhere (matmul.h); those for gradients of weights wait for the end of backward (deferred_gradients.h).
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/matmul_operands.h"
#include "kernels/require.h"
#include "runtime/cuda/check.h"

namespace ember {
namespace {

// What sums without terms, which no product of either kind takes, leave: the bias, or zeros.
void write_empty_sums(Tensor out, Tensor bias, cudaStream_t stream) {
  if (out.empty()) return;
  const std::size_t bytes = static_cast<std::size_t>(out.cols) * size_of(out.dtype);
  for (std::int64_t r = 0; r < out.rows; ++r) {
    void* row = out.row_block(r, 1).data;
    check_cuda(bias.empty() ? cudaMemsetAsync(row, 0, bytes, stream)
                            : cudaMemcpyAsync(row, bias.data, bytes, cudaMemcpyDeviceToDevice, stream),
               "writing empty sums");
  }
}

}  // namespace

void CudaKernels::linear_forward(Tensor out, Tensor in, Tensor weight, Tensor bias) {
  require_forward_operands(out, in, weight, bias);
  if (in.cols == 0) return write_empty_sums(out, bias, stream());
  const FewRowsProduct product{out, in, weight, bias, true};
  serves(product, device_) ? run(product, for_product()) : matmul_.forward(out, in, weight, bias);
}

void CudaKernels::linear_backward_input(Tensor din, Tensor dout, Tensor weight) {
  require_backward_input_operands(din, dout, weight);
  if (dout.cols == 0) return write_empty_sums(din, {}, stream());
  const FewRowsProduct product{din, dout, weight, {}, false};
  serves(product, device_) ? run(product, for_product()) : matmul_.backward_input(din, dout, weight);
}

void CudaKernels::linear_backward_weight(Tensor dweight, Tensor dbias, Tensor dout, Tensor in) {
  require(dbias.empty() || has_shape(dbias, 1, dout.cols), "linear_backward_weight: shape of dbias");
  deferred_.add_product(dweight, dout, in);
  if (!dbias.empty()) deferred_.add_columns(dbias, dout);
}

}  // namespace ember
