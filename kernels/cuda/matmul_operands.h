// What Matmul asks of its operands, for both of its implementations.
#pragma once

#include "kernels/require.h"
#include "runtime/tensor.h"

namespace ember {

inline void require_forward_operands(const Tensor& out, const Tensor& in, const Tensor& weight, const Tensor& bias) {
  require(in.cols == weight.cols && out.cols == weight.rows && out.rows == in.rows, "matmul forward: shapes");
  require(in.dtype == DType::f16 && weight.dtype == DType::f16, "matmul forward: operands of f16");
  require(out.dtype == DType::f16 || out.dtype == DType::f32, "matmul forward: output of f16 or f32");
  require(bias.empty() || (bias.size() == out.cols && bias.dtype == out.dtype), "matmul forward: bias");
}

inline void require_backward_input_operands(const Tensor& din, const Tensor& dout, const Tensor& weight) {
  require(din.cols == weight.cols && dout.cols == weight.rows && din.rows == dout.rows, "matmul input: shapes");
  require(din.dtype == DType::f16 && dout.dtype == DType::f16 && weight.dtype == DType::f16, "matmul input: f16");
}

inline void require_backward_weight_operands(const Tensor& dweight, const Tensor& dout, const Tensor& in) {
  require(dweight.rows == dout.cols && dweight.cols == in.cols && in.rows == dout.rows, "matmul weight: shapes");
  require(dout.dtype == DType::f16 && in.dtype == DType::f16, "matmul weight: operands of f16");
  require(dweight.dtype == DType::f32, "matmul weight: gradient of f32");
}

}  // namespace ember
