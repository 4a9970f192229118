// The 16-bit format that the upper half of a float makes.
#pragma once

#include <bit>
#include <cstdint>

namespace ember {

// Rounds to nearest, ties to even. A NaN stays one: its payload is cut, so the quiet bit is set.
inline std::uint16_t to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
  return static_cast<std::uint16_t>((bits & 0x7FFFFFFFu) > 0x7F800000u ? (bits >> 16) | 0x40u : rounded);
}

inline void round_row(std::uint16_t* to, const float* from, std::int64_t count) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) to[i] = to_bf16(from[i]);
}

}  // namespace ember
