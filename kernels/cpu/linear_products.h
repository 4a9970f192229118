// A linear layer's products in one precision, each by whatever multiplies it fastest here.
#pragma once

#include <cstddef>

#include "kernels/cpu/scratch.h"
#include "runtime/tensor.h"

namespace ember {

// `weight` is (O, I), all else fp32. Outputs overlap no operand.
struct LinearProducts {
  // out (M, O) = in (M, I) weightᵀ + bias (O, or empty).
  void (*forward)(Tensor out, Tensor in, Tensor weight, Tensor bias, Scratch& scratch, int threads);
  // din (M, I) = dout (M, O) weight.
  void (*backward_input)(Tensor din, Tensor dout, Tensor weight, Scratch& scratch, int threads);
  // dweight (O, I) = doutᵀ in.
  void (*backward_weight)(Tensor dweight, Tensor dout, Tensor in, Scratch& scratch, int threads);

  // For a weight that stays: its packed form, which must be aligned to 64 bytes, and forward by it. No bytes: there is
  // no such form, and the weight itself serves.
  std::size_t (*packed_bytes)(Tensor weight);
  void (*pack)(void* packed, Tensor weight);
  void (*packed_forward)(Tensor out, Tensor in, const void* packed, Tensor bias, Scratch& scratch, int threads);
};

// Of weights in fp32. Packed products, and with AMX all, do not depend on `threads`. With AMX each float is the sum of
// three bf16 (pair_product.h), and results are as exact as fp32's, but that
// - an operand that is infinite, or 3.39618e38 or more, gives NaN, and a sum that overflows is infinite or NaN;
// - what is below 2^-126, be it a part of a number or a product of parts, counts as zero: numbers and products below
//   2^-102 lose digits, to 2^-15 of themselves at 2^-110 and to all but 8 bits at 2^-118.
const LinearProducts& fp32_products();

// Of weights in bf16, with sums in fp32; activations and their gradients are rounded to bf16 on the way, to the
// nearest, ties to even. Results do not depend on `threads`. std::logic_error where the compiler is not told of
// AVX512-BF16, for which no CpuKernels is made in that precision.
const LinearProducts& bf16_products();

}  // namespace ember
