// AMX's instructions in software, for the tile of kernels/cpu/matrix_tile.h on processors without them: included before
// everything else of a source file, it takes the place of the compiler's intrinsics. What each does is in Intel's "64
// and IA-32 Architectures Software Developer's Manual", volume 2. Results are the processor's bits, but where denormal
// numbers come in, which it takes for zero.
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

// sums[m][n] += product(row m of left, column n of right), as words.
template <typename Sum, typename Product>
void tile_product(int sums, int left, int right, Product product) {
  for (int m = 0; m < kTileRows; ++m)
    for (int n = 0; n < kTileWords; ++n) {
      std::uint32_t column[kTileWords];
      for (int k = 0; k < kTileWords; ++k) column[k] = tiles[right].words[k][n];
      Sum sum;
      std::memcpy(&sum, &tiles[sums].words[m][n], sizeof sum);
      sum += product(tiles[left].words[m], column);
      std::memcpy(&tiles[sums].words[m][n], &sum, sizeof sum);
    }
}

// Four unsigned bytes by four signed ones.
inline void tile_dpbusd(int sums, int left, int right) {
  tile_product<std::int32_t>(sums, left, right, [](const std::uint32_t* a, const std::uint32_t* b) {
    std::int32_t sum = 0;
    for (int k = 0; k < kTileWords; ++k)
      for (int shift = 0; shift < 32; shift += 8)
        sum += static_cast<std::uint8_t>(a[k] >> shift) * static_cast<std::int8_t>(b[k] >> shift);
    return sum;
  });
}

inline float upper_half(std::uint32_t word) {
  word &= 0xFFFF0000u;
  float value;
  std::memcpy(&value, &word, sizeof value);
  return value;
}

// Two pairs of bf16: the first ones of all words, the second ones, both sums, and then what was there.
inline void tile_dpbf16ps(int sums, int left, int right) {
  tile_product<float>(sums, left, right, [](const std::uint32_t* a, const std::uint32_t* b) {
    float first = 0, second = 0;
    for (int k = 0; k < kTileWords; ++k) {
      first = std::fma(upper_half(a[k] << 16), upper_half(b[k] << 16), first);
      second = std::fma(upper_half(a[k]), upper_half(b[k]), second);
    }
    return first + second;
  });
}

}  // namespace ember::testing
