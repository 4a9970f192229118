// A linear layer's products in bf16 with sums in fp32. `weight` is (O, I) in bf16; activations and their gradients come
// in fp32 and are rounded on the way, to the nearest, ties to even. Two definitions: bf16_product.cpp where the
// compiler is told of AVX512-BF16, by oneDNN in bf16_product_library.cpp elsewhere. Results do not depend on `threads`.
#pragma once

#include <cstddef>

#include "kernels/cpu/scratch.h"
#include "runtime/tensor.h"

namespace ember {

// out (M, O) = in (M, I) weightᵀ + bias (O, or empty).
void bf16_forward(Tensor out, Tensor in, Tensor weight, Tensor bias, Scratch& scratch, int threads);
// din (M, I) = dout (M, O) weight.
void bf16_backward_input(Tensor din, Tensor dout, Tensor weight, Scratch& scratch, int threads);
// dweight (O, I) fp32 = doutᵀ in.
void bf16_backward_weight(Tensor dweight, Tensor dout, Tensor in, Scratch& scratch, int threads);

// For a weight that stays: its packed form, which must be aligned to 64 bytes, and forward by it. No bytes: there is no
// such form, and the weight itself serves.
std::size_t bf16_packed_bytes(Tensor weight);
void bf16_pack(void* packed, Tensor weight);
void bf16_packed_forward(Tensor out, Tensor in, const void* packed, Tensor bias, Scratch& scratch, int threads);

}  // namespace ember
