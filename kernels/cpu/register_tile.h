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

#include "kernels/cpu/lanes.h"
#include "kernels/cpu/vector_math.h"
#include "runtime/ceil_div.h"
#include "runtime/tensor.h"

namespace ember {

#if defined(__AVX512F__)
constexpr int kTileRows = 12;
#else
constexpr int kTileRows = 6;
#endif
constexpr int kTileColumns = 2 * kLanes;

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

// The next panel is asked for by so many of this one's last tiles, each for a share, where there are more of them and
// they have two vectors; else by the last, for all of it. All of it holds up that tile's own loads: with AVX2 it
// took 1.5 times as long as those before it. With AVX-512 shares were not measured.
#if defined(__AVX512F__)
constexpr int kShares = 1;
#else
constexpr int kShares = 4;
#endif

// One panel of the right operand, and the one that is asked for meanwhile, into the second-level cache (or null).
template <typename Group>
struct Panel {
  // Of the next panel what one tile asks for, in groups.
  std::int64_t share() const { return groups * (kTileColumns / kShares); }
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
// int8_product.cpp) have the same two members, a put() that computes from the sums what they store, and below(rows),
// the output so many rows further down.
struct SumsOutput {
  void put(int r, int column, Lanes<float> sums) const { std::memcpy(data + r * stride + column, &sums, sizeof sums); }
  SumsOutput below(std::int64_t rows) const { return {data + rows * stride, stride}; }
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
  AddedOutput below(std::int64_t rows) const { return {data + rows * stride, stride}; }
  float* data;
  std::int64_t stride;
};
constexpr auto kAddedOutput = [](float* data, std::int64_t stride, std::int64_t) { return AddedOutput{data, stride}; };

// What a tile asks the caches for ahead of the product, by how many rows (docs/performance_cpu_inference.md). Of its
// own panel, which is read in order: nothing where that lies in the first-level cache; 16 rows (2 KB with AVX-512)
// where it is too large for that, for the rows of the left operand pass through it too; 64 rows where it may still be
// in memory that is slower than the multipliers, and then, unless it is null, all of the next panel too. A share of the
// next panel: 1 / kShares, the next tile's share the one behind it.
enum class Asks { nothing, near, far, share, near_and_share };
constexpr int rows_ahead(Asks asks) {
  return asks == Asks::far ? 64 : asks == Asks::near || asks == Asks::near_and_share ? 16 : 0;
}
constexpr bool asks_share(Asks asks) {
  return asks == Asks::share || asks == Asks::near_and_share;
}
constexpr std::int64_t kMostInFirstCache = 24 << 10;  // bytes of a panel

// `count` tiles, one below the other: out (count Rows, kVectors kLanes) = start + left x the panel's first columns;
// start: what every row's sums begin with. Together, since what lies between two tiles is time in which the multipliers
// wait.
template <typename Arithmetic, typename Left, typename Output, int Rows, int kVectors, Asks kAsks>
void register_tiles(std::int64_t count, Output out, const typename Arithmetic::Sum* start, Left left,
                    Panel<typename Arithmetic::Group> panel) {
  static_assert(kVectors == 1 || kVectors == 2);
  for (; count > 0; --count) {
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
      for (int c = 0; rows_ahead(kAsks) > 0 && c < kTileColumns; c += kLine) {
        __builtin_prefetch(right + rows_ahead(kAsks) * kTileColumns + c);
        if (kAsks == Asks::far && panel.next != nullptr) __builtin_prefetch(panel.next + k * kTileColumns + c, 0, 2);
      }
      if constexpr (asks_share(kAsks)) __builtin_prefetch(panel.next + k * (kTileColumns / kShares), 0, 2);
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
    out = out.below(Rows), left = left.from_row(Rows, Rows, panel.groups);
    if constexpr (asks_share(kAsks)) panel.next += panel.share();
  }
}

template <typename Arithmetic, typename Left, typename Output, int kVectors, Asks kAsks, std::size_t... I>
constexpr auto tiles_up_to(std::index_sequence<I...>) {
  return std::array{register_tiles<Arithmetic, Left, Output, static_cast<int>(I) + 1, kVectors, kAsks>...};
}
// kTiles<Arithmetic, Left, Output, kVectors, kAsks>[rows - 1] are tiles of `rows` rows.
template <typename Arithmetic, typename Left, typename Output, int kVectors, Asks kAsks>
constexpr auto kTiles = tiles_up_to<Arithmetic, Left, Output, kVectors, kAsks>(std::make_index_sequence<Left::kRows>());

// TilesOf<Arithmetic, Left, Output>::get(rows, width, asks) are those for these operands and that many columns.
template <typename Arithmetic, typename Left, typename Output>
struct TilesOf {
  static auto get(std::int64_t rows, std::int64_t width, Asks asks) {
    const auto row = static_cast<std::size_t>(rows - 1);
    if constexpr (kShares > 1) {
      if (asks == Asks::share) return kTiles<Arithmetic, Left, Output, 2, Asks::share>[row];
      if (asks == Asks::near_and_share) return kTiles<Arithmetic, Left, Output, 2, Asks::near_and_share>[row];
    }
    return (width <= kLanes      ? kTiles<Arithmetic, Left, Output, 1, Asks::far>
            : asks == Asks::far  ? kTiles<Arithmetic, Left, Output, 2, Asks::far>
            : asks == Asks::near ? kTiles<Arithmetic, Left, Output, 2, Asks::near>
                                 : kTiles<Arithmetic, Left, Output, 2, Asks::nothing>)[row];
  }
};

// Rows in tiles of nearly equal height, as far as Left's steps allow, the higher ones first: a low last one would leave
// the multipliers idle. Tile t is rows [begin(t), begin(t + 1)).
template <typename Left>
struct RowTiles {
  explicit RowTiles(std::int64_t rows)
      : rows(rows),
        count(ceil_div(rows, Left::kRows)),
        steps(count > 0 ? padded() / Left::kRowStep / count : 0),
        higher(count > 0 ? padded() / Left::kRowStep % count : 0) {}
  std::int64_t begin(std::int64_t t) const {
    return std::min(rows, (t * steps + std::min(t, higher)) * Left::kRowStep);
  }
  std::int64_t height(std::int64_t t) const { return begin(t + 1) - begin(t); }
  // The first tile behind t that may have another height, at most `end`.
  std::int64_t other_height(std::int64_t t, std::int64_t end) const {
    const std::int64_t lower_end = rows == padded() ? count : std::max(t + 1, count - 1);
    return std::min(end, t < higher ? higher : lower_end);
  }
  // Of the rows in memory.
  std::int64_t padded() const { return rounded(rows); }
  static std::int64_t rounded(std::int64_t row) { return round_up(row, Left::kRowStep); }
  std::int64_t rows, count;
  std::int64_t steps, higher;  // of the lower tiles' height; how many have one more
};

// What each of a panel's tiles asks for: the first the panel itself; the last ones, which find that in the cache so
// that memory is idle, the next one.
template <typename Group>
class Asking {
 public:
  Asking(const Panel<Group>& panel, std::int64_t tiles, std::int64_t width)
      : next_(panel.next),
        tiles_(tiles),
        shared_(kShares > 1 && next_ != nullptr && tiles > kShares && width > kLanes),
        last_(next_ == nullptr ? tiles
              : shared_        ? tiles - kShares
                               : std::max<std::int64_t>(1, tiles - 1)),
        share_(panel.share()),
        near_(panel.groups * kTileColumns * static_cast<std::int64_t>(sizeof(Group)) > kMostInFirstCache) {}

  Asks of(std::int64_t t) const {
    if (t == 0 || (t >= last_ && !shared_)) return Asks::far;
    if (t >= last_) return near_ ? Asks::near_and_share : Asks::share;
    return near_ ? Asks::near : Asks::nothing;
  }
  const Group* next(std::int64_t t) const {
    if (t < last_) return nullptr;
    return shared_ ? next_ + (t - last_) * share_ : next_;
  }
  // The first tile behind t that asks for something else.
  std::int64_t other(std::int64_t t) const { return t == 0 ? 1 : t < last_ ? last_ : tiles_; }

 private:
  const Group* next_;
  std::int64_t tiles_;
  bool shared_;
  std::int64_t last_;  // the first of the last ones
  std::int64_t share_;
  bool near_;
};

// Columns [column, column + kTileColumns), as far as there are, of out = start + left x panel. `start`, a row of
// out.cols, is where every row's sums start; null: at zero. output(data, stride, row) is what becomes of the sums of
// the tile that begins with that row and lies there.
template <typename Arithmetic, typename Left, typename OutputOf>
void multiply_panel(Tensor out, const typename Arithmetic::Sum* start, Left left, Panel<typename Left::Group> panel,
                    std::int64_t column, const OutputOf& output) {
  using Output = decltype(output(nullptr, 0, 0));
  const std::int64_t width = std::min<std::int64_t>(kTileColumns, out.cols - column);
  alignas(64) typename Arithmetic::Sum from[kTileColumns] = {};
  if (start != nullptr) std::copy_n(start + column, width, from);
  const RowTiles<Left> tiles(out.rows);
  const Asking<typename Left::Group> asking(panel, tiles.count, width);
  const bool whole = width == kTileColumns;
  for (std::int64_t t = 0, behind = 0; t < tiles.count; t = behind) {
    behind = whole ? tiles.other_height(t, asking.other(t)) : t + 1;
    const std::int64_t begin = tiles.begin(t), rows = tiles.height(t);
    const auto multiply = [&](const Output& to) {
      TilesOf<Arithmetic, Left, Output>::get(rows, width, asking.of(t))(
          behind - t, to, from, left.from_row(begin, rows, panel.groups), {panel.data, panel.groups, asking.next(t)});
    };
    if (whole) {
      multiply(output(out.row(begin) + column, out.stride, begin));
      continue;
    }
    alignas(64) float block[Left::kRows][kTileColumns];
    for (std::int64_t r = 0; std::is_same_v<Output, AddedOutput> && r < rows; ++r)
      std::fill(std::copy_n(out.row(begin + r) + column, width, block[r]), block[r] + kTileColumns, 0.0f);
    multiply(output(block[0], kTileColumns, begin));
    for (std::int64_t r = 0; r < rows; ++r) copy_first(out.row(begin + r) + column, block[r], static_cast<int>(width));
  }
}

}  // namespace ember
