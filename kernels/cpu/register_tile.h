// The innermost part of every matrix product of our own: a tile of the output that lives in registers, at most
// kTileRows broadcasts of the left operand against two vectors of the right one. Of the 16 (SSE, AVX2) or 32 (AVX-512)
// registers 2 kTileRows are sums, two hold the right operand, one the broadcast; what needs more for these has fewer
// rows. After Goto and van de Geijn, "Anatomy of high-performance matrix multiplication" (ACM TOMS 2008).
//
// The inner dimension comes in groups: one float, two bf16, four or eight 8-bit integers, whatever `Arithmetic`
// multiplies at once. It has
//   Group, Sum         what a group and a sum are in memory; a sum has 32 bits, a group 32 or 64
//   Groups, Sums       kLanes of them
//   add(sums, group, groups)   sums + the products of `group` with every one of `groups`
// The right operand comes in panels of kTileColumns columns: (groups, kTileColumns).
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "kernels/cpu/vector_math.h"
#include "runtime/ceil_div.h"
#include "runtime/tensor.h"

namespace ember {

#if defined(__AVX512F__)
constexpr int kLanes = 16, kTileRows = 12;
#elif defined(__AVX__)
constexpr int kLanes = 8, kTileRows = 6;
#else
constexpr int kLanes = 4, kTileRows = 6;
#endif
constexpr int kTileColumns = 2 * kLanes;

template <typename Element>
using Lanes [[gnu::vector_size(kLanes * 4)]] = Element;

constexpr std::int64_t panels(std::int64_t columns) {
  return ceil_div(columns, kTileColumns);
}

struct FloatProduct {
  using Group = float;
  using Sum = float;
  using Groups = Lanes<float>;
  using Sums = Lanes<float>;
  static Sums add(Sums sums, float group, Groups groups) { return sums + group * groups; }
};

// The left operand as it lies: group (r, k) is data[r row + k inner].
template <typename Number>
struct StridedLeft {
  using Group = Number;
  static constexpr int kRows = kTileRows, kRowStep = 1;
  template <int Rows>
  Group at(int r, std::int64_t k) const {
    return data[r * row + k * inner];
  }
  StridedLeft from_row(std::int64_t begin, std::int64_t, std::int64_t) const {
    return {data + begin * row, row, inner};
  }
  const Group* data;
  std::int64_t row, inner;
};

// The left operand in tiles, one after the other: of each its first group of every row, then its second, ... Twice as
// fast as rows for the narrow numbers, whose products would wait for the addresses.
template <typename Number, int kMostRows = kTileRows>
struct TiledLeft {
  using Group = Number;
  static constexpr int kRows = kMostRows, kRowStep = 1, kInnerStep = 1;
  template <int Rows>
  Group at(int r, std::int64_t k) const {
    return data[k * Rows + r];
  }
  TiledLeft from_row(std::int64_t begin, std::int64_t, std::int64_t groups) const { return {data + begin * groups}; }
  // Row r of a tile of `rows`.
  static void put_row(Group* tile, std::int64_t r, std::int64_t rows, const Group* row, std::int64_t groups) {
    for (std::int64_t k = 0; k < groups; ++k) tile[k * rows + r] = row[k];
  }
  const Group* data;
};

// One panel of the right operand, and the one that is asked for meanwhile, into the second-level cache (or null).
template <typename Group>
struct Panel {
  const Group* data;
  std::int64_t groups;
  const Group* next = nullptr;
};

// kLanes groups of one vector, or of several, its `parts`. (Copied straight into these, they would go through memory in
// halves.)
template <typename Groups>
Groups load_groups(const void* from) {
  Groups groups;
  if constexpr (requires { groups.parts; }) {
    for (auto& part : groups.parts) {
      part = load_groups<std::remove_reference_t<decltype(part)>>(from);
      from = static_cast<const std::byte*>(from) + sizeof part;
    }
  } else {
    std::memcpy(&groups, from, sizeof groups);
  }
  return groups;
}

// What becomes of a tile's sums in fp32: they are the output, row r at data + r stride. Other kinds of output (see
// int8_product.cpp) have the same two members and a put() that computes from the sums what they store.
struct SumsOutput {
  void put(int r, int column, Lanes<float> sums) const { std::memcpy(data + r * stride + column, &sums, sizeof sums); }
  float* data;
  std::int64_t stride;
};
constexpr auto kSumsOutput = [](float* data, std::int64_t stride, std::int64_t) { return SumsOutput{data, stride}; };

// They are added to the output.
struct AddedOutput {
  void put(int r, int column, Lanes<float> sums) const {
    Lanes<float> before;
    std::memcpy(&before, data + r * stride + column, sizeof before);
    sums += before;
    std::memcpy(data + r * stride + column, &sums, sizeof sums);
  }
  float* data;
  std::int64_t stride;
};
constexpr auto kAddedOutput = [](float* data, std::int64_t stride, std::int64_t) { return AddedOutput{data, stride}; };

// How far ahead of the product a panel, which is read in order, is asked for (docs/performance_cpu_inference.md): not at all
// where it lies in the first-level cache; 16 rows (2 KB with AVX-512) where it is too large for that, for the rows of
// the left operand pass through it too; 64 rows where it may still be in memory that is slower than the multipliers.
enum class Fetch : int { none = 0, near = 16, far = 64 };
constexpr std::int64_t kMostInFirstCache = 24 << 10;  // bytes of a panel

// out (Rows, kVectors kLanes) = start + left x the panel's first columns; start: what every row's sums begin with. With
// Fetch::far `next` is asked for too.
template <typename Arithmetic, typename Left, typename Output, int Rows, int kVectors, Fetch kFetch>
void register_tile(const Output& out, const typename Arithmetic::Sum* start, Left left,
                   const Panel<typename Arithmetic::Group>& panel) {
  static_assert(kVectors == 1 || kVectors == 2);
  typename Arithmetic::Sums sums[Rows][kVectors];
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r)
    for (int c = 0; c < kVectors; ++c) {
      __builtin_prefetch(out.data + r * out.stride + c * kLanes, 1);
      typename Arithmetic::Sums first;  // copied straight into the array, it would go through memory in halves
      std::memcpy(&first, start + c * kLanes, sizeof first);
      sums[r][c] = first;
    }
  for (std::int64_t k = 0; k < panel.groups; ++k) {
    const typename Arithmetic::Group* right = panel.data + k * kTileColumns;
    constexpr int kLine = 64 / sizeof *right;
    for (int c = 0; kFetch != Fetch::none && c < kTileColumns; c += kLine) {
      __builtin_prefetch(right + static_cast<int>(kFetch) * kTileColumns + c);
      if (kFetch == Fetch::far && panel.next != nullptr) __builtin_prefetch(panel.next + k * kTileColumns + c, 0, 2);
    }
    using Groups = typename Arithmetic::Groups;
    const Groups first = load_groups<Groups>(right), second = load_groups<Groups>(right + (kVectors - 1) * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r) {
      const typename Arithmetic::Group group = left.template at<Rows>(r, k);
      sums[r][0] = Arithmetic::add(sums[r][0], group, first);
      if constexpr (kVectors == 2) sums[r][1] = Arithmetic::add(sums[r][1], group, second);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < Rows; ++r)
    for (int c = 0; c < kVectors; ++c) out.put(r, c * kLanes, sums[r][c]);
}

template <typename Arithmetic, typename Left, typename Output, int kVectors, Fetch kFetch, std::size_t... I>
constexpr auto tiles_up_to(std::index_sequence<I...>) {
  return std::array{register_tile<Arithmetic, Left, Output, static_cast<int>(I) + 1, kVectors, kFetch>...};
}
// kTiles<Arithmetic, Left, Output, kVectors, kFetch>[rows - 1] is the tile of `rows` rows.
template <typename Arithmetic, typename Left, typename Output, int kVectors, Fetch kFetch>
constexpr auto kTiles =
    tiles_up_to<Arithmetic, Left, Output, kVectors, kFetch>(std::make_index_sequence<Left::kRows>());

// TileOf<Arithmetic, Left, Output>::get(rows, width, fetch) is the one for those operands and that many columns.
template <typename Arithmetic, typename Left, typename Output>
struct TileOf {
  static auto get(std::int64_t rows, std::int64_t width, Fetch fetch) {
    return (width <= kLanes       ? kTiles<Arithmetic, Left, Output, 1, Fetch::far>
            : fetch == Fetch::far ? kTiles<Arithmetic, Left, Output, 2, Fetch::far>
            : fetch == Fetch::near
                ? kTiles<Arithmetic, Left, Output, 2, Fetch::near>
                : kTiles<Arithmetic, Left, Output, 2, Fetch::none>)[static_cast<std::size_t>(rows - 1)];
  }
};

// Rows in tiles of equal height, as far as Left's steps allow: a low last one would leave the multipliers idle. Tile t
// is rows [begin(t), begin(t + 1)).
template <typename Left>
struct RowTiles {
  explicit RowTiles(std::int64_t rows) : rows(rows), count(ceil_div(rows, Left::kRows)) {}
  std::int64_t begin(std::int64_t t) const { return std::min(rows, rounded(t * rows / count)); }
  // Of the rows in memory.
  std::int64_t padded() const { return rounded(rows); }
  static std::int64_t rounded(std::int64_t row) { return round_up(row, Left::kRowStep); }
  std::int64_t rows, count;
};

// Columns [column, column + kTileColumns), as far as there are, of out = start + left x panel. `start`, a row of
// out.cols, is where every row's sums start; null: at zero. output(data, stride, row) is what becomes of the sums of
// the tile that begins with that row and lies there. The panel's `next` is asked for during the last of several tiles,
// which finds its own panel in the cache, so that memory is idle.
template <typename Arithmetic, typename Left, typename OutputOf>
void multiply_panel(Tensor out, const typename Arithmetic::Sum* start, Left left, Panel<typename Left::Group> panel,
                    std::int64_t column, const OutputOf& output) {
  using Output = decltype(output(nullptr, 0, 0));
  const std::int64_t width = std::min<std::int64_t>(kTileColumns, out.cols - column);
  alignas(64) typename Arithmetic::Sum from[kTileColumns] = {};
  if (start != nullptr) std::copy_n(start + column, width, from);
  const bool large = panel.groups * kTileColumns * static_cast<std::int64_t>(sizeof *panel.data) > kMostInFirstCache;
  const RowTiles<Left> tiles(out.rows);
  for (std::int64_t t = 0; t < tiles.count; ++t) {
    const std::int64_t begin = tiles.begin(t), rows = tiles.begin(t + 1) - begin;
    const bool last = t > 0 && t + 1 == tiles.count;
    const Panel<typename Left::Group> now{panel.data, panel.groups, last ? panel.next : nullptr};
    const bool arrives = t == 0 || now.next != nullptr;
    const Fetch fetch = arrives ? Fetch::far : large ? Fetch::near : Fetch::none;
    const auto multiply = TileOf<Arithmetic, Left, Output>::get(rows, width, fetch);
    const Left tile = left.from_row(begin, rows, panel.groups);
    if (width == kTileColumns) {
      multiply(output(out.row(begin) + column, out.stride, begin), from, tile, now);
      continue;
    }
    alignas(64) float block[Left::kRows][kTileColumns];
    for (std::int64_t r = 0; std::is_same_v<Output, AddedOutput> && r < rows; ++r)
      std::fill(std::copy_n(out.row(begin + r) + column, width, block[r]), block[r] + kTileColumns, 0.0f);
    multiply(output(block[0], kTileColumns, begin), from, tile, now);
    for (std::int64_t r = 0; r < rows; ++r) copy_first(out.row(begin + r) + column, block[r], static_cast<int>(width));
  }
}

}  // namespace ember
