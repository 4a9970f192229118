// The tile of register_tile.h in the matrix registers of AMX, for bf16 and 8-bit integers: two tiles of 16 rows against
// two of 16 columns, so that a load of 1 KB serves two products. Registers 0 to 3 are sums, 4 and 5 the left operand, 6
// and 7 the right one. (Intel, "64 and IA-32 Architectures Software Developer's Manual", volume 1, "Programming with
// Intel AMX"; "Optimization Reference Manual", the chapter of the same name.)
#pragma once

#include "kernels/cpu/register_tile.h"

#if defined(__AMX_TILE__)
#include <immintrin.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <type_traits>

namespace ember {

// The left operand in tiles as the registers hold them, kRowStep rows of kInnerStep groups: of each kRowStep rows the
// tiles one after the other, so that they are read in the order in which they lie. The last groups of rows that end
// within a tile are zero; rows behind the last may be anything.
template <typename Number>
struct MatrixLeft {
  using Group = Number;
  static constexpr int kRows = 32, kRowStep = 16, kInnerStep = 16;
  MatrixLeft from_row(std::int64_t begin, std::int64_t count, std::int64_t groups) const {
    return {data + begin * groups, count};
  }
  // Where group k of row r lies, of rows of `groups`.
  static std::int64_t place(std::int64_t r, std::int64_t k, std::int64_t groups) {
    return r / kRowStep * kRowStep * groups + k / kInnerStep * kInnerStep * kRowStep + r % kRowStep * kInnerStep +
           k % kInnerStep;
  }
  // Row r of a tile of `rows`.
  static void put_row(Group* tile, std::int64_t r, std::int64_t, const Group* row, std::int64_t groups) {
    for (std::int64_t k = 0; k < groups; k += kInnerStep) std::copy_n(row + k, kInnerStep, tile + place(r, k, groups));
  }
  const Group* data;
  std::int64_t rows = 0;
};

// Lets its thread use the registers as long as it lives.
class MatrixRegisters {
 public:
  MatrixRegisters() {
    alignas(64) static constexpr Shapes kShapes{};
    _tile_loadconfig(&kShapes);
  }
  ~MatrixRegisters() { _tile_release(); }
  MatrixRegisters(const MatrixRegisters&) = delete;
  MatrixRegisters& operator=(const MatrixRegisters&) = delete;

 private:
  struct Shapes {
    std::uint8_t palette = 1, start_row = 0, zeros[14] = {};
    std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  };
};

// Numbers may be sums of several parts, the largest first; of every 16 groups all of the first part come first, then
// all of the second, ... Which parts of the left operand are multiplied by which of the right one, so ordered that few
// have to be loaded again and that small products are added before large ones. Of three parts, of which the second is
// at most 2^-8 of the number and the third 2^-17, three of the nine products are left out: 2^-24 of the whole, at most.
// (Henry, Tang and Heinecke, "Leveraging the bfloat16 artificial intelligence datatype for higher-precision
// computations", ARITH 2019.)
struct PartProduct {
  int left, right;
};
template <int kParts>
constexpr std::array<PartProduct, 1> kPartProducts = {{{0, 0}}};
template <>
constexpr std::array<PartProduct, 6> kPartProducts<3> = {{{2, 0}, {1, 0}, {1, 1}, {0, 1}, {0, 2}, {0, 0}}};

// out (left.rows, kTileColumns) = start + left x panel, as one of register_tiles of two vectors. Tall: left.rows is
// more than 16. Besides what those ask of it, `Arithmetic` has multiply<Tall>(), which adds the products of registers
// 4, 5 (if Tall) and 6, 7 to the sums, and kSplit, the number of parts.
template <typename Arithmetic, typename Output, bool Tall, bool kFetch>
void matrix_tile(const Output& out, const typename Arithmetic::Sum* start, MatrixLeft<typename Arithmetic::Group> left,
                 const Panel<typename Arithmetic::Group>& panel) {
  constexpr int kRows = Tall ? 32 : 16, kStep = 16;
  static_assert(kTileColumns == 32);
  std::int64_t asked = 0;  // rows of the output, a few in every step
  // Compilers do not know what memory the instructions read and write.
  std::atomic_signal_fence(std::memory_order_seq_cst);
  constexpr std::int64_t left_bytes = kStep * 4, panel_bytes = kTileColumns * 4;
  _tile_loadd(0, start, 0);
  _tile_loadd(1, start + kStep, 0);
  if constexpr (Tall) {
    _tile_loadd(2, start, 0);
    _tile_loadd(3, start + kStep, 0);
  }
  constexpr int kParts = Arithmetic::kSplit;
  constexpr const auto& kProducts = kPartProducts<kParts>;
  constexpr int kCount = static_cast<int>(kProducts.size());
  for (std::int64_t k = 0; k < panel.groups; k += kStep * kParts) {
    const auto* right = panel.data + k * kTileColumns;
    for (const std::int64_t end = std::min(left.rows, asked + 4); asked < end; ++asked)
      for (int c = 0; c < kTileColumns; c += kStep) __builtin_prefetch(out.data + asked * out.stride + c, 1);
    for (int c = 0; kFetch && c < kStep * kParts * kTileColumns; c += 16) {
      __builtin_prefetch(right + rows_ahead(Asks::far) * kTileColumns + c);
      if (panel.next != nullptr) __builtin_prefetch(panel.next + k * kTileColumns + c, 0, 2);
    }
#pragma GCC unroll 8
    for (int i = 0; i < kCount; ++i) {
      const auto [left_part, right_part] = kProducts[i];
      if (i == 0 || right_part != kProducts[i - 1].right) {
        const auto* from = right + right_part * kStep * kTileColumns;
        _tile_loadd(6, from, panel_bytes);
        _tile_loadd(7, from + kStep, panel_bytes);
      }
      if (i == 0 || left_part != kProducts[i - 1].left) {
        const auto* from = left.data + (k + left_part * kStep) * kStep;
        _tile_loadd(4, from, left_bytes);
        if constexpr (Tall) _tile_loadd(5, from + kStep * panel.groups, left_bytes);
      }
      Arithmetic::template multiply<Tall>();
    }
  }
  // Sums that are the output go there straight from the registers, unless rows behind the last are not there.
  alignas(64) typename Arithmetic::Sum block[kRows][kTileColumns];
  const bool direct = std::is_same_v<Output, SumsOutput> && left.rows == kRows;
  auto* to = direct ? reinterpret_cast<std::byte*>(out.data) : reinterpret_cast<std::byte*>(block);
  const std::int64_t to_bytes = (direct ? out.stride : kTileColumns) * 4;
  _tile_stored(0, to, to_bytes);
  _tile_stored(1, to + kStep * 4, to_bytes);
  if constexpr (Tall) {
    _tile_stored(2, to + kStep * to_bytes, to_bytes);
    _tile_stored(3, to + kStep * to_bytes + kStep * 4, to_bytes);
  }
  std::atomic_signal_fence(std::memory_order_seq_cst);
  for (int r = 0; !direct && r < left.rows; ++r)
    for (int c = 0; c < kTileColumns; c += kStep) {
      typename Arithmetic::Sums sums;
      std::memcpy(&sums, block[r] + c, sizeof sums);
      out.put(r, c, sums);
    }
}

// `count` of them, one below the other.
template <typename Arithmetic, typename Output, bool Tall, bool kFetch>
void matrix_tiles(std::int64_t count, Output out, const typename Arithmetic::Sum* start,
                  MatrixLeft<typename Arithmetic::Group> left, Panel<typename Arithmetic::Group> panel) {
  for (; count > 0; --count) {
    matrix_tile<Arithmetic, Output, Tall, kFetch>(out, start, left, panel);
    out = out.below(left.rows), left = left.from_row(left.rows, left.rows, panel.groups);
  }
}

template <typename Arithmetic, typename Output>
struct TilesOf<Arithmetic, MatrixLeft<typename Arithmetic::Group>, Output> {
  static auto get(std::int64_t rows, std::int64_t, Asks asks) {
    const bool far = asks == Asks::far;
    if (rows > 16)
      return far ? matrix_tiles<Arithmetic, Output, true, true> : matrix_tiles<Arithmetic, Output, true, false>;
    return far ? matrix_tiles<Arithmetic, Output, false, true> : matrix_tiles<Arithmetic, Output, false, false>;
  }
};

template <typename Number, int = kTileRows>
using NarrowLeft = MatrixLeft<Number>;

}  // namespace ember

#else

namespace ember {

struct MatrixRegisters {};

template <typename Number, int kMostRows = kTileRows>
using NarrowLeft = TiledLeft<Number, kMostRows>;

}  // namespace ember
#endif
