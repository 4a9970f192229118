// A linear layer's products in fp32. `weight` is (O, I). Where the compiler is told of AMX, each float is the sum of
// three bf16 (pair_product.h): sums are as exact as in fp32, but where that has an infinite number, or one from 3.39e38
// on, they are NaN, and products below 2^-126 are zero.
#pragma once

#include <cstddef>

#include "kernels/cpu/scratch.h"
#include "runtime/tensor.h"

namespace ember {

// out (M, O) = in (M, I) weightᵀ + bias (O, or empty).
void fp32_forward(Tensor out, Tensor in, Tensor weight, Tensor bias, Scratch& scratch, int threads);
// din (M, I) = dout (M, O) weight.
void fp32_backward_input(Tensor din, Tensor dout, Tensor weight, Scratch& scratch, int threads);
// dweight (O, I) = doutᵀ in.
void fp32_backward_weight(Tensor dweight, Tensor dout, Tensor in, Scratch& scratch, int threads);

// For a weight that stays: its packed form, which must be aligned to 64 bytes, and forward by it, whose results do not
// depend on `threads`.
std::size_t fp32_packed_bytes(Tensor weight);
void fp32_pack(void* packed, Tensor weight);
void fp32_packed_forward(Tensor out, Tensor in, const void* packed, Tensor bias, Scratch& scratch, int threads);

}  // namespace ember
