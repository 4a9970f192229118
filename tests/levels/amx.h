// AMX's instructions in software, for the tile of kernels/cpu/matrix_tile.h; the rest of that level as in
// avx512_bf16.h. What each does is in Intel's "64 and IA-32 Architectures Software Developer's Manual", volume 2.
// Results are the processor's bits.
#pragma once

#include <cstdio>
#include <cstdlib>

#include "tests/levels/avx512_bf16.h"

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

constexpr int kRegisters = 8, kTileRows = 16;  // of 16 words, the shapes that matrix_tile.h sets

struct Tile {
  Words rows[kTileRows][2];
};
inline thread_local Tile tiles[kRegisters];

// As the processor keeps them. A register without one, or whose rows or bytes an instruction does not fit, is a fault.
struct TileShapes {
  std::uint8_t palette, start_row, zeros[14];
  std::uint16_t row_bytes[16];
  std::uint8_t rows[16];
};
inline thread_local TileShapes shapes{};

inline void tile_loadconfig(const void* from) {
  std::memcpy(&shapes, from, sizeof shapes);
  std::memset(tiles, 0, sizeof tiles);
}
inline void tile_release() {
  shapes = {};
}

inline Tile& tile(int number) {
  if (shapes.palette != 1 || shapes.row_bytes[number] != 64 || shapes.rows[number] != kTileRows) {
    std::fprintf(stderr, "AMX: register %d has another shape, or none\n", number);
    std::abort();
  }
  return tiles[number];
}

inline void tile_load(int to, const void* from, std::int64_t stride) {
  Tile& loaded = tile(to);
  for (int r = 0; r < kTileRows; ++r)
    std::memcpy(loaded.rows[r], static_cast<const std::byte*>(from) + r * stride, sizeof loaded.rows[r]);
}
inline void tile_store(int from, void* to, std::int64_t stride) {
  const Tile& stored = tile(from);
  for (int r = 0; r < kTileRows; ++r)
    std::memcpy(static_cast<std::byte*>(to) + r * stride, stored.rows[r], sizeof stored.rows[r]);
}

// sums[m][n] += left[m][k] right[k][n], summed over k: add(sums, left words, right words, p) to sums p < kSums from
// zero on, which are added up in their order and then to what was there.
template <typename Sums, int kSums, typename Add>
void tile_product(int sums, int left, int right, Add add) {
  Tile& all = tile(sums);
  const Tile &a = tile(left), &b = tile(right);
  for (int m = 0; m < kTileRows; ++m)
    for (int half = 0; half < 2; ++half) {
      Sums parts[kSums] = {};
      for (int k = 0; k < kTileRows; ++k) {
        const Words word = Words{} + a.rows[m][k / 8][k % 8];
        for (int p = 0; p < kSums; ++p) parts[p] = add(parts[p], word, b.rows[k][half], p);
      }
      for (int p = 1; p < kSums; ++p) parts[0] = flushed(parts[0] + parts[p]);
      Words& row = all.rows[m][half];
      row = (Words)flushed((Sums)row + parts[0]);
    }
}

// Four unsigned bytes by four signed ones.
inline void tile_dpbusd(int sums, int left, int right) {
  tile_product<Integers, 1>(sums, left, right,
                            [](Integers so_far, Words a, Words b, int) { return add_bytes(so_far, a, b); });
}

// Two pairs of bf16, the first ones of all words and the second ones apart.
inline void tile_dpbf16ps(int sums, int left, int right) {
  tile_product<Floats, 2>(sums, left, right, [](Floats so_far, Words a, Words b, int second) {
    return add_halves(so_far, a, b, second != 0);
  });
}

}  // namespace ember::testing
