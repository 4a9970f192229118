// AVX-512 with VNNI and bf16 in software; see avx512.h.
#pragma once

#include "tests/levels/avx512.h"

#define __AVX512VNNI__ 1
#define __AVX512BF16__ 1

#define _mm512_dpbusd_epi32 ember::testing::dpbusd
#define _mm512_dpbf16_ps ember::testing::dpbf16
#define _mm512_cvtne2ps_pbh ember::testing::round_to_bf16

namespace ember::testing {

// 256 bits: of more g++ 12 makes single elements.
using Words = Lanes<std::uint32_t, 32>;
using Integers = Lanes<std::int32_t, 32>;
using Floats = Lanes<float, 32>;

// The instructions of bf16 take denormal numbers for zero, as operands and as results.
inline Floats flushed(Floats values) {
  return ((Words)values & 0x7FFFFFFF) < 0x00800000 ? Floats{} : values;
}
inline Integers flushed(Integers values) {
  return values;
}

// sums + the products of the four unsigned bytes in a by the signed ones in b.
inline Integers add_bytes(Integers sums, Words a, Words b) {
  for (int shift = 0; shift < 32; shift += 8)
    sums += (Integers)(a >> shift & 0xFF) * ((Integers)(b << (24 - shift)) >> 24);
  return sums;
}
// sums + the products of one of the two bf16 in a by the same one in b.
inline Floats add_halves(Floats sums, Words a, Words b, bool upper) {
  const int shift = upper ? 0 : 16;
  const auto float_of = [&](Words words) { return flushed((Floats)(words << shift & 0xFFFF0000)); };
  return flushed((Floats)_mm256_fmadd_ps((__m256)float_of(a), (__m256)float_of(b), (__m256)sums));
}

inline __m512i dpbusd(__m512i sums, __m512i a, __m512i b) {
  return by_halves([](__m256i so_far, __m256i x, __m256i y) { return add_bytes((Integers)so_far, (Words)x, (Words)y); },
                   sums, a, b);
}
inline __m512 dpbf16(__m512 sums, __m512bh a, __m512bh b) {
  return by_halves(
      [](__m256i so_far, __m256i x, __m256i y) {
        const Floats upper = add_halves(flushed((Floats)so_far), (Words)x, (Words)y, true);
        return add_halves(upper, (Words)x, (Words)y, false);
      },
      sums, a, b);
}

// To the nearest, ties to the even one, in the lower half of each word. NaNs stay NaNs, quiet ones.
inline Words rounded(Words floats) {
  const Words values = (Words)flushed((Floats)floats), quiet = values >> 16 | 0x40;
  const Words nearest = (values + 0x7FFF + (values >> 16 & 1)) >> 16;
  return (values & 0x7FFFFFFF) > 0x7F800000 ? quiet : nearest;
}
inline __m512bh round_to_bf16(__m512 upper, __m512 lower) {
  const auto round = [](__m256i floats) { return rounded((Words)floats); };
  const Lanes<std::uint32_t> words[] = {(Lanes<std::uint32_t>)by_halves(round, lower),
                                        (Lanes<std::uint32_t>)by_halves(round, upper)};
  return lanes<__m512bh, std::uint16_t>(kEveryLane,
                                        [&](int i) { return static_cast<std::uint16_t>(words[i / 16][i % 16]); });
}

}  // namespace ember::testing
