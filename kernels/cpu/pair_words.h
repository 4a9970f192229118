// Pairs of bf16 as the processor's products take them, 16 at a time, from matrices in fp32 or bf16. Of numbers in bf16,
// or rounded to it, a pair is two neighbours in the inner dimension. A float that is split into three bf16, of which it
// is the sum, is paired with the one 16 further, of every 32 the first 16 with the others, so that no number has to
// change its place in a vector.
#pragma once

#if defined(__AVX512BF16__)
#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/register_tile.h"
#include "runtime/tensor.h"

namespace ember {

using Word = std::uint32_t;  // a pair, its first in the lower half

// 16 pairs of each part of the numbers; or the same before they are split, which is less to transpose.
template <int kParts>
struct Words {
  __m512i parts[kParts];
};
template <int kParts>
struct Unsplit {
  __m512i halves[kParts == 1 ? 1 : 2];  // one part: the pairs. Three: their first floats, their second ones.
};

// Where in the inner dimension pair k has its first number, and how much further its second.
template <int kParts>
constexpr std::int64_t first_of_pair(std::int64_t k) {
  return kParts == 1 ? 2 * k : k / 16 * 32 + k % 16;
}
template <int kParts>
constexpr std::int64_t kPairDistance = kParts == 1 ? 1 : 16;

// Masks that leave nothing out stand here because g++ 12 warns of uninitialised values inside the forms without.
constexpr __mmask16 kAll = 0xFFFF;

// The first `count` of 16 or more.
inline __mmask16 first_lanes(std::int64_t count) {
  return static_cast<__mmask16>(count >= 16 ? 0xFFFF : count <= 0 ? 0 : (1 << count) - 1);
}

inline const std::uint16_t* bf16_row(Tensor t, std::int64_t r) {
  return static_cast<const std::uint16_t*>(t.data) + r * t.stride;
}

// 16 halves and another 16, which follow them, as 16 pairs of one of each.
inline __m512i interleave(__m512i halves) {
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21,
                                         5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return _mm512_maskz_permutexvar_epi16(0xFFFFFFFF, order, halves);
}

inline Words<1> split(Unsplit<1> pairs) {
  return {pairs.halves[0]};
}
// Each part is what the ones before it leave, to the nearest bf16; what they leave is exact in fp32, and after two it
// has 8 bits or less. So the third needs no rounding, which would make some NaNs zero. Of numbers below 2^-110 the
// third is a denormal number, whose last bits are lost.
inline Words<3> split(Unsplit<3> pairs) {
  constexpr Word kUpper = 0xFFFF0000, kHalf = 0x8000;
  auto first = (Lanes<float>)pairs.halves[0], second = (Lanes<float>)pairs.halves[1];
  Words<3> words;
  for (int p = 0; p < 3; ++p) {
    const Word rounding = p < 2 ? kHalf : 0;
    const Lanes<Word> a = ((Lanes<Word>)first + rounding) & kUpper, b = ((Lanes<Word>)second + rounding) & kUpper;
    words.parts[p] = (__m512i)(a >> 16 | b);
    first -= (Lanes<float>)a, second -= (Lanes<float>)b;
  }
  return words;
}

// Pairs k to k + 16 of row r, with zeros behind the last column. Of split numbers k is a multiple of 16.
template <int kParts>
Unsplit<kParts> pairs_of_row(Tensor t, std::int64_t r, std::int64_t k) {
  const std::int64_t column = 2 * k;
  const __mmask16 lower = first_lanes(t.cols - column), upper = first_lanes(t.cols - column - 16);
  if (kParts == 1 && t.dtype == DType::bf16)
    return {_mm512_maskz_loadu_epi16(lower | static_cast<__mmask32>(upper) << 16, bf16_row(t, r) + column)};
  const float* values = t.row(r) + column;
  const __m512 first = _mm512_maskz_loadu_ps(lower, values), second = _mm512_maskz_loadu_ps(upper, values + 16);
  if constexpr (kParts == 1)
    return {(__m512i)_mm512_cvtne2ps_pbh(second, first)};
  else
    return {(__m512i)first, (__m512i)second};
}

// Pair k of the inner dimension, the rows, of `count` columns from `column` on; with zeros behind the last row.
template <int kParts>
Unsplit<kParts> pairs_of_rows(Tensor t, std::int64_t k, std::int64_t column, std::int64_t count) {
  const std::int64_t r = first_of_pair<kParts>(k), next = kPairDistance<kParts> * t.stride;
  const __mmask16 mask = r < t.rows ? first_lanes(count) : 0, last = r + kPairDistance<kParts> < t.rows ? mask : 0;
  if (kParts == 1 && t.dtype == DType::bf16) {
    const std::uint16_t* row = bf16_row(t, r) + column;
    const __m256i lower = _mm256_maskz_loadu_epi16(mask, row), upper = _mm256_maskz_loadu_epi16(last, row + next);
    return {interleave(_mm512_maskz_inserti64x4(0xFF, _mm512_castsi256_si512(lower), upper, 1))};
  }
  const float* row = t.row(r) + column;
  const __m512 first = _mm512_maskz_loadu_ps(mask, row), second = _mm512_maskz_loadu_ps(last, row + next);
  if constexpr (kParts == 1)
    return {interleave((__m512i)_mm512_cvtne2ps_pbh(second, first))};
  else
    return {(__m512i)first, (__m512i)second};
}

inline __m512i low_words(__m512i a, __m512i b) {
  return _mm512_maskz_unpacklo_epi32(kAll, a, b);
}
inline __m512i high_words(__m512i a, __m512i b) {
  return _mm512_maskz_unpackhi_epi32(kAll, a, b);
}
inline __m512i low_halves(__m512i a, __m512i b) {
  return _mm512_maskz_unpacklo_epi64(0xFF, a, b);
}
inline __m512i high_halves(__m512i a, __m512i b) {
  return _mm512_maskz_unpackhi_epi64(0xFF, a, b);
}
inline __m512i even_quarters(__m512i a, __m512i b) {
  return _mm512_maskz_shuffle_i32x4(kAll, a, b, 0x88);
}
inline __m512i odd_quarters(__m512i a, __m512i b) {
  return _mm512_maskz_shuffle_i32x4(kAll, a, b, 0xDD);
}

// 16 rows of 16 words become 16 columns, in four rounds that each interleave pairs of rows.
inline void transpose(__m512i (&r)[16]) {
  __m512i a[16], b[16];
  for (int i = 0; i < 16; i += 2) a[i] = low_words(r[i], r[i + 1]), a[i + 1] = high_words(r[i], r[i + 1]);
  for (int i = 0; i < 16; i += 4)
    for (int j = 0; j < 2; ++j) {
      b[i + 2 * j] = low_halves(a[i + j], a[i + j + 2]);
      b[i + 2 * j + 1] = high_halves(a[i + j], a[i + j + 2]);
    }
  for (int j = 0; j < 4; ++j) {  // b[4 i + j] now has words j, 4 + j, 8 + j, 12 + j of rows 4 i to 4 i + 3
    const __m512i even = even_quarters(b[j], b[4 + j]), even_below = even_quarters(b[8 + j], b[12 + j]);
    const __m512i odd = odd_quarters(b[j], b[4 + j]), odd_below = odd_quarters(b[8 + j], b[12 + j]);
    r[j] = even_quarters(even, even_below), r[8 + j] = odd_quarters(even, even_below);
    r[4 + j] = even_quarters(odd, odd_below), r[12 + j] = odd_quarters(odd, odd_below);
  }
}

}  // namespace ember
#endif
