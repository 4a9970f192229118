// out = in weightᵀ + bias in 8-bit integers, for inference. Weights are signed and quantised once, symmetrically, with
// a scale per output; activations are unsigned and quantised as they come, with a scale and an offset per row:
//   w[o, i] ~ s[o] u[o, i];   x[m, i] ~ a[m] q[m, i] + b[m],  b[m] = min x[m, .],  a[m] = (max x[m, .] - b[m]) / 254,
//   so out[m, o] = a[m] s[o] sum q u + b[m] s[o] sum u[o, .] + bias[o].
// s[o] is max |w[o, .]| / 127 where the processor adds products in 32 bits (VNNI, AMX). Where it first adds four in 16
// bits, which saturate, the largest sum of weights of one sign among such four takes the place of the largest weight:
// 1.5 to 2 times as much, so that the rounding of the weights, not of the activations, is that much coarser.
// Both round to the nearest, ties to even; the sums are exact integers. (Jacob et al. 2018, "Quantization and training
// of neural networks for efficient integer-arithmetic-only inference", with an offset in fp32 instead of a zero point:
// there is no padding that would have to be exactly zero.) A NaN or an infinity in a row of either makes its outputs
// NaN, and so do activations further from each other than the largest float.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/scratch.h"
#include "runtime/tensor.h"

namespace ember {

// 254 x 127 x 65536 is the largest sum that surely fits 32 bits; a weight of more inputs has no quantised form.
constexpr std::int64_t kMostInt8Inputs = 65536;

// Bytes of the quantised form of a weight (O, I).
std::size_t int8_bytes(Tensor weight);
// `packed` must be aligned to 64 bytes.
void int8_pack(void* packed, Tensor weight);
// out (M, O), in (M, I), bias (O) or empty.
void int8_product(Tensor out, Tensor in, const void* packed, Tensor bias, Scratch& scratch, int threads);

}  // namespace ember
