// exp, tanh, gelu and its slope in single precision, without branches or calls, so that g++ vectorises the loops that
// use them, and what ends such a loop. The polynomials are minimax fits of relative error, made for this file by
// iteratively reweighted least squares (Lawson, "Contributions to the theory of linear least maximum approximation",
// 1961) in double precision.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/cpu/lanes.h"

namespace ember {

// exp(x) = power 2^n, with n in the low bits of `shifted`: exp(r) and the integer nearest x / ln 2, by Cody and Waite,
// "Software manual for the elementary functions" (1980), chapter 6, with ln 2 in two parts so that r keeps its digits.
// The fit of exp(r), a polynomial, is off by 3.1e-9. |x| up to 89.
struct ExpParts {
  float power;
  std::uint32_t shifted;
};
[[gnu::always_inline]] inline ExpParts exp_parts(float x) {
  constexpr float kRound = 0x1.8p23f;  // adding it leaves the nearest integer in the low bits
  const float shifted = x * 1.44269504f + kRound;
  const float n = shifted - kRound;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 0.00138145988f;
  p = p * r + 0.00836871658f;
  p = p * r + 0.0416683890f;
  p = p * r + 0.166665211f;
  p = p * r + 0.499999940f;
  return {p * (r * r) + r + 1.0f, std::bit_cast<std::uint32_t>(shifted)};
}

// exp(x) within 2 units in the last place; zero below -86.98 (no subnormal results), infinity above 88.72, NaN for NaN.
[[gnu::always_inline]] inline float vector_exp(float x) {
  const ExpParts parts = exp_parts(x > 89.0f ? 89.0f : x);
  // 2^(n - 1) and a doubling: 2^128 is no float, yet exp(x) is one up to n = 128.
  const float half_power = std::bit_cast<float>((parts.shifted + 126u) << 23);
  return x < -86.98f ? 0.0f : (parts.power * 2.0f) * half_power;
}

// tanh(x) within 2 units in the last place; NaN for NaN. Below 5/8 x + x³ p(x²), fitted to 4.4e-9 of the value, since
// the other form, (1 - exp(-2 |x|)) / (1 + exp(-2 |x|)), loses digits there.
[[gnu::always_inline]] inline float vector_tanh(float x) {
  const float z = std::fabs(x), square = x * x;
  float p = -0.00570498733f;
  p = p * square + 0.0206390880f;
  p = p * square - 0.0537397154f;
  p = p * square + 0.133314416f;
  p = p * square - 0.333332807f;
  const float power = vector_exp(-2.0f * z);
  const float large = std::copysign((1.0f - power) / (1.0f + power), x);
  return z < 0.625f ? x + x * square * p : large;
}

// The left tail of the normal distribution at -z, z = |x| up to 13.2: bell = exp(-z² / 2), and Phi(-z) = bell q. Beyond
// that, where Phi is below 1e-39, z stays and bell is zero.
struct NormalTail {
  float z, bell, q;
};

// Phi(-z) = exp(-z² / 2) q(s), s = a z / (1 + a z): the idea of Abramowitz and Stegun, "Handbook of mathematical
// functions" (1964), 26.2.17, but in s = 1 - t, so that q starts at exactly 1/2 and is best where most activations are.
// q, of degree 9 and fitted on 0 <= z <= 13.5, is off by 8.9e-9 of the value. exp is never so small here that n could
// not just be added to its exponent.
[[gnu::always_inline]] inline NormalTail normal_tail(float x) {
  constexpr float kScale = 0.33f;
  const float size = std::fabs(x), z = size > 13.2f ? 13.2f : size;
  const ExpParts exp = exp_parts(-0.5f * (z * z));
  const auto power = std::bit_cast<float>(std::bit_cast<std::uint32_t>(exp.power) + (exp.shifted << 23));
  const float s = z / (z + 1.0f / kScale);
  float q = 0.0264177267f;
  q = q * s - 0.0863800496f;
  q = q * s + 0.0685219988f;
  q = q * s + 0.0192764681f;
  q = q * s + 0.0668455437f;
  q = q * s - 0.154764608f;
  q = q * s - 0.317755818f;
  q = q * s + 1.08676207f;
  q = q * s - 1.20891607f;
  q = q * s + 0.5f;
  return {z, size > 13.2f ? 0.0f : power, q};
}

// gelu(x) = x Phi(x) within 1e-7 absolutely or of x, where that is more; for negative x also within (2.5e-6 + 3e-8 x²)
// of its own value down to -13, so that it keeps its tail. NaN for NaN.
[[gnu::always_inline]] inline float vector_gelu(float x) {
  const NormalTail tail = normal_tail(x);
  return (x < 0.0f ? 0.0f : x) - tail.z * (tail.bell * tail.q);
}

// gelu'(x) = Phi(x) + x phi(x) within 2e-7. NaN for NaN.
[[gnu::always_inline]] inline float vector_gelu_slope(float x) {
  const NormalTail tail = normal_tail(x);
  const float of_left = tail.bell * (tail.q - 0.398942280f * tail.z);
  return x < 0.0f ? of_left : 1.0f - of_left;
}

// The first `count` of the lanes, a power of two of them. With AVX-512 that is one masked store; AVX2's are slower than
// a few pieces, and a copy whose size the compiler does not know is a call.
template <int Count>
void copy_first(float* to, const float (&lanes)[Count], int count) {
  static_assert(std::has_single_bit(static_cast<unsigned>(Count)));
#if defined(__AVX512F__)
#pragma omp simd
  for (int j = 0; j < Count; ++j)
    if (j < count) to[j] = lanes[j];
#else
  const float* from = lanes;
#pragma GCC unroll 8
  for (int piece = Count; piece > 0; piece /= 2) {
    if ((count & piece) == 0) continue;
    std::memcpy(to, from, static_cast<std::size_t>(piece) * sizeof(float));
    to += piece, from += piece;
  }
#endif
}

// Combines the lanes, a power of two of them, to one number, in a fixed order. They are used up.
template <std::size_t Count, typename Combine>
float fold(float (&lanes)[Count], Combine combine) {
#pragma GCC unroll 8
  for (std::size_t half = Count / 2; half > 0; half /= 2) {
#pragma omp simd
    for (std::size_t j = 0; j < half; ++j) lanes[j] = combine(lanes[j], lanes[j + half]);
  }
  return lanes[0];
}

// The sum of term(i) for i < size, of sums side by side, enough that none waits for its last addition.
template <typename Term>
float sum_of(std::int64_t size, const Term& term) {
  constexpr std::int64_t kSums = 4 * kLanes;
  float sums[kSums] = {};
  std::int64_t i = 0;
  for (; i + kSums <= size; i += kSums) {
#pragma omp simd
    for (std::int64_t j = 0; j < kSums; ++j) sums[j] += term(i + j);
  }
  for (; i + kLanes <= size; i += kLanes) {
#pragma omp simd
    for (std::int64_t j = 0; j < kLanes; ++j) sums[j] += term(i + j);
  }
  for (std::int64_t j = 0; i < size; ++i, ++j) sums[j] += term(i);
  return fold(sums, [](float a, float b) { return a + b; });
}

}  // namespace ember
