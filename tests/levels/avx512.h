// AVX-512 in software, for the levels of kernels/cpu above AVX2 on processors without them: included before everything
// else of a source file. Vectors of 16 lanes, which the kernels write as such, the compiler divides among those of
// AVX2; the instructions that they call by name are functions here. What each does is in Intel's "64 and IA-32
// Architectures Software Developer's Manual", volume 2. Unlike the compiler's own, masked loads and stores are seen by
// AddressSanitizer, of each the elements that its mask has.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#define __AVX512F__ 1
#define __AVX512BW__ 1

#undef _mm512_maskz_shuffle_i32x4  // these are macros where nothing is optimised
#undef _mm512_maskz_inserti64x4
#define _mm512_setzero_si512 ember::testing::none
#define _mm512_set1_epi16 ember::testing::each_of<std::int16_t>
#define _mm512_set1_epi32 ember::testing::each_of<std::int32_t>
#define _mm512_set_epi16 ember::testing::set_epi16
#define _mm512_castsi256_si512 ember::testing::widened
#define _mm512_maskz_inserti64x4 ember::testing::with_half
#define _mm512_maskz_loadu_epi16 ember::testing::load<__m512i, std::uint16_t>
#define _mm256_maskz_loadu_epi16 ember::testing::load<__m256i, std::uint16_t>
#define _mm512_maskz_loadu_ps ember::testing::load<__m512, float>
#define _mm512_mask_storeu_epi32 ember::testing::store_epi32
#define _mm512_maskz_permutexvar_epi16 ember::testing::permute_epi16
#define _mm512_maskz_unpacklo_epi32 ember::testing::interleave<std::uint32_t, 0>
#define _mm512_maskz_unpackhi_epi32 ember::testing::interleave<std::uint32_t, 1>
#define _mm512_maskz_unpacklo_epi64 ember::testing::interleave<std::uint64_t, 0>
#define _mm512_maskz_unpackhi_epi64 ember::testing::interleave<std::uint64_t, 1>
#define _mm512_maskz_shuffle_i32x4 ember::testing::shuffle_quarters
#define _mm512_maskz_mul_epu32 ember::testing::mul_epu32
#define _mm512_maddubs_epi16 ember::testing::maddubs_epi16
#define _mm512_madd_epi16 ember::testing::madd_epi16
#define _mm512_adds_epi16 ember::testing::adds_epi16

namespace ember::testing {

template <typename Element, std::size_t kBytes = 64>
using Lanes [[gnu::vector_size(kBytes)]] = Element;

// Lane i is lane(i) where the mask has bit i, else zero.
template <typename Vector, typename Element, typename Lane>
[[gnu::noinline]] Vector lanes(std::uint64_t mask, const Lane& lane) {
  Lanes<Element, sizeof(Vector)> all{};
  for (int i = 0; i < static_cast<int>(sizeof(Vector) / sizeof(Element)); ++i)
    if ((mask >> i & 1) != 0) all[i] = lane(i);
  return (Vector)all;
}
constexpr std::uint64_t kEveryLane = ~std::uint64_t{0};

// Each half by instructions of AVX2: half(x) or half(x, y), ... of vectors of 256 bits.
template <typename Half, typename First, typename... Others>
[[gnu::noinline]] First by_halves(const Half& half, First first, Others... others) {
  const auto part = [](const auto& whole, int i) {
    __m256i lanes;
    std::memcpy(&lanes, reinterpret_cast<const std::byte*>(&whole) + i * 32, sizeof lanes);
    return lanes;
  };
  const __m256i both[] = {(__m256i)half(part(first, 0), part(others, 0)...),
                          (__m256i)half(part(first, 1), part(others, 1)...)};
  std::memcpy(&first, both, sizeof first);
  return first;
}

inline __m512i none() {
  return __m512i{};
}
template <typename Element>
__m512i each_of(Element value) {
  return (__m512i)(Lanes<Element>{} + value);
}
template <typename... Numbers>
__m512i set_epi16(Numbers... last_first) {
  const int numbers[] = {last_first...};
  static_assert(sizeof...(last_first) == 32);
  return lanes<__m512i, std::int16_t>(kEveryLane, [&](int i) { return static_cast<std::int16_t>(numbers[31 - i]); });
}
// What is in the upper half the manual leaves open.
inline __m512i widened(__m256i lower) {
  __m512i all = each_of<std::int32_t>(0x5A5A5A5A);
  std::memcpy(&all, &lower, sizeof lower);
  return all;
}
inline __m512i with_half(std::uint64_t mask, __m512i whole, __m256i half, int place) {
  std::memcpy(reinterpret_cast<std::byte*>(&whole) + place * 32, &half, sizeof half);
  return lanes<__m512i, std::uint64_t>(mask, [&](int i) { return ((Lanes<std::uint64_t>)whole)[i]; });
}

template <typename Vector, typename Element>
Vector load(std::uint64_t mask, const void* from) {
  return lanes<Vector, Element>(mask, [&](int i) {
    Element element;
    std::memcpy(&element, static_cast<const std::byte*>(from) + i * static_cast<int>(sizeof element), sizeof element);
    return element;
  });
}
[[gnu::noinline]] inline void store_epi32(void* to, std::uint64_t mask, __m512i from) {
  for (int i = 0; i < 16; ++i) {
    const std::uint32_t element = ((Lanes<std::uint32_t>)from)[i];
    if ((mask >> i & 1) != 0) std::memcpy(static_cast<std::byte*>(to) + i * 4, &element, sizeof element);
  }
}

inline __m512i permute_epi16(std::uint64_t mask, __m512i places, __m512i from) {
  return lanes<__m512i, std::uint16_t>(
      mask, [&](int i) { return ((Lanes<std::uint16_t>)from)[((Lanes<std::uint16_t>)places)[i] % 32]; });
}
// Of each quarter the lower half (kUpper = 0) or the upper one, of a and b by turns.
template <typename Element, int kUpper>
__m512i interleave(std::uint64_t mask, __m512i a, __m512i b) {
  constexpr int kQuarter = 16 / sizeof(Element);
  return lanes<__m512i, Element>(mask, [&](int i) {
    const int from = i / kQuarter * kQuarter + kUpper * kQuarter / 2 + i % kQuarter / 2;
    return ((Lanes<Element>)(i % 2 == 0 ? a : b))[from];
  });
}
// Two quarters of a, then two of b, of each the one whose number is in two bits of `which`.
inline __m512i shuffle_quarters(std::uint64_t mask, __m512i a, __m512i b, int which) {
  return lanes<__m512i, std::uint32_t>(
      mask, [&](int i) { return ((Lanes<std::uint32_t>)(i < 8 ? a : b))[(which >> i / 4 * 2 & 3) * 4 + i % 4]; });
}

inline __m512i mul_epu32(std::uint64_t mask, __m512i a, __m512i b) {
  const __m512i products = by_halves([](__m256i x, __m256i y) { return _mm256_mul_epu32(x, y); }, a, b);
  return lanes<__m512i, std::uint64_t>(mask, [&](int i) { return ((Lanes<std::uint64_t>)products)[i]; });
}
inline __m512i maddubs_epi16(__m512i a, __m512i b) {
  return by_halves([](__m256i x, __m256i y) { return _mm256_maddubs_epi16(x, y); }, a, b);
}
inline __m512i madd_epi16(__m512i a, __m512i b) {
  return by_halves([](__m256i x, __m256i y) { return _mm256_madd_epi16(x, y); }, a, b);
}
inline __m512i adds_epi16(__m512i a, __m512i b) {
  return by_halves([](__m256i x, __m256i y) { return _mm256_adds_epi16(x, y); }, a, b);
}

}  // namespace ember::testing
