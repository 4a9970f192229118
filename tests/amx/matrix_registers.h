// AMX's instructions in software, for the tile of kernels/cpu/matrix_tile.h on processors without them: included before
// everything else of a source file, it takes the place of the compiler's intrinsics. What each does is in Intel's "64
// and IA-32 Architectures Software Developer's Manual", volume 2. Results are the processor's bits.
#pragma once

#include <immintrin.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbusd
#undef _tile_dpbf16ps
#define _tile_loadconfig ember::testing::tile_loadconfig
#define _tile_release ember::testing::tile_release
#define _tile_loadd ember::testing::tile_load
#define _tile_stored ember::testing::tile_store
#define _tile_dpbusd ember::testing::tile_dpbusd
#define _tile_dpbf16ps ember::testing::tile_dpbf16ps
#define __AMX_TILE__ 1
#define __AMX_INT8__ 1
#define __AMX_BF16__ 1

namespace ember::testing {

constexpr int kRegisters = 8, kTileRows = 16, kTileWords = 16;  // of the shapes that matrix_tile.h sets

struct Tile {
  std::uint32_t words[kTileRows][kTileWords];
};
inline thread_local Tile tiles[kRegisters];

inline void tile_loadconfig(const void*) {}
inline void tile_release() {}

inline void tile_load(int to, const void* from, std::int64_t stride) {
  for (int r = 0; r < kTileRows; ++r)
    std::memcpy(tiles[to].words[r], static_cast<const std::byte*>(from) + r * stride, sizeof tiles[to].words[r]);
}
inline void tile_store(int from, void* to, std::int64_t stride) {
  for (int r = 0; r < kTileRows; ++r)
    std::memcpy(static_cast<std::byte*>(to) + r * stride, tiles[from].words[r], sizeof tiles[from].words[r]);
}

// The registers take denormal numbers for zero, as operands of bf16 and as results.
inline float flushed(float value) {
  return std::fabs(value) < 0x1p-126f ? 0.0f : value;
}
inline std::int32_t flushed(std::int32_t value) {
  return value;
}
inline float upper_half(std::uint32_t word) {
  word &= 0xFFFF0000u;
  float value;
  std::memcpy(&value, &word, sizeof value);
  return flushed(value);
}

// sums[m][n] += left[m][k] right[k][n], summed over k: add(sum, left word, right word) to `kSums` sums from zero on,
// which are added up in their order and then to what was there.
template <typename Sum, int kSums, typename Add>
void tile_product(int sums, int left, int right, Add add) {
  for (int m = 0; m < kTileRows; ++m) {
    Sum row[kTileWords], parts[kSums][kTileWords] = {};
    std::memcpy(row, tiles[sums].words[m], sizeof row);
    for (int k = 0; k < kTileWords; ++k)
      for (int p = 0; p < kSums; ++p)
        for (int n = 0; n < kTileWords; ++n)
          parts[p][n] = add(parts[p][n], tiles[left].words[m][k], tiles[right].words[k][n], p);
    for (int p = 1; p < kSums; ++p)
      for (int n = 0; n < kTileWords; ++n) parts[0][n] = flushed(parts[0][n] + parts[p][n]);
    for (int n = 0; n < kTileWords; ++n) row[n] = flushed(row[n] + parts[0][n]);
    std::memcpy(tiles[sums].words[m], row, sizeof row);
  }
}

// Four unsigned bytes by four signed ones.
inline void tile_dpbusd(int sums, int left, int right) {
  tile_product<std::int32_t, 1>(sums, left, right, [](std::int32_t sum, std::uint32_t a, std::uint32_t b, int) {
    for (int shift = 0; shift < 32; shift += 8)
      sum += static_cast<std::uint8_t>(a >> shift) * static_cast<std::int8_t>(b >> shift);
    return sum;
  });
}

// Two pairs of bf16, the first ones of all words and the second ones apart.
inline void tile_dpbf16ps(int sums, int left, int right) {
  tile_product<float, 2>(sums, left, right, [](float sum, std::uint32_t a, std::uint32_t b, int second) {
    const int shift = second ? 0 : 16;
    return flushed(std::fma(upper_half(a << shift), upper_half(b << shift), sum));
  });
}

}  // namespace ember::testing
