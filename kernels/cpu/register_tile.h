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

// How far ahead of the product a panel, which is read in order, is asked for (docs/performance_cpu_inference.md): not
// at all where it lies in the first-level cache; 16 rows (2 KB with AVX-512) where it is too large for that, for the
// rows of the left operand pass through it too; 64 rows where it may still be in memory that is slower than the
// multipliers.
enum class Fetch : int { none = 0, near = 16, far = 64 };
constexpr std::int64_t kMostInFirstCache = 24 << 10;  // bytes of a panel

// The next panel is asked for by so many of this one's last tiles, each for a share, where there are more of them and
// they have two vectors; else by the last, for all of it. All of it holds up that tile's own loads: with AVX2 it
// took 1.5 times as long as those before it. With AVX-512 shares were not measured.
#if defined(__AVX512F__)
constexpr int kShares = 1;
#else
constexpr int kShares = 4;
#endif

// out (Rows, kVectors kLanes) = start + left x the panel's first columns; start: what every row's sums begin with. Asks
// for a share of `next` with kShare, for all of it with Fetch::far.
template <typename Arithmetic, typename Left, typename Output, int Rows, int kVectors, Fetch kFetch, bool kShare>
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
    if constexpr (kShare) __builtin_prefetch(panel.next + k * (kTileColumns / kShares), 0, 2);
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

template <typename Arithmetic, typename Left, typename Output, int kVectors, Fetch kFetch, bool kShare,
          std::size_t... I>
constexpr auto tiles_up_to(std::index_sequence<I...>) {
  return std::array{register_tile<Arithmetic, Left, Output, static_cast<int>(I) + 1, kVectors, kFetch, kShare>...};
}
// kTiles<Arithmetic, Left, Output, kVectors, kFetch, kShare>[rows - 1] is the tile of `rows` rows.
template <typename Arithmetic, typename Left, typename Output, int kVectors, Fetch kFetch, bool kShare = false>
constexpr auto kTiles =
    tiles_up_to<Arithmetic, Left, Output, kVectors, kFetch, kShare>(std::make_index_sequence<Left::kRows>());

// TileOf<Arithmetic, Left, Output>::get(rows, width, fetch, share) is the one for those operands and that many columns.
template <typename Arithmetic, typename Left, typename Output>
struct TileOf {
  static auto get(std::int64_t rows, std::int64_t width, Fetch fetch, bool share) {
    const auto row = static_cast<std::size_t>(rows - 1);
    if constexpr (kShares > 1) {
      if (share)
        return (fetch == Fetch::near ? kTiles<Arithmetic, Left, Output, 2, Fetch::near, true>
                                     : kTiles<Arithmetic, Left, Output, 2, Fetch::none, true>)[row];
    }
    return (width <= kLanes        ? kTiles<Arithmetic, Left, Output, 1, Fetch::far>
            : fetch == Fetch::far  ? kTiles<Arithmetic, Left, Output, 2, Fetch::far>
            : fetch == Fetch::near ? kTiles<Arithmetic, Left, Output, 2, Fetch::near>
                                   : kTiles<Arithmetic, Left, Output, 2, Fetch::none>)[row];
  }
};

// Rows in tiles of equal height, as far as Left's steps allow: a low last one would leave the multipliers idle. Tile t
// is rows [begin(t), begin(t + 1)).
template <typename Left>
struct RowTiles {
  explicit RowTiles(std::int64_t rows) : rows(rows), count(ceil_div(rows, Left::kRows)) {}
  std::int64_t begin(std::int64_t t) const { return std::min(rows, rounded(t * rows / count)); }
  // task(t, begin(t), begin(t + 1)) in turn, without a division for each.
  template <typename Task>
  void each(const Task& task) const {
    if (count == 0) return;
    const std::int64_t whole = rows / count, over = rows % count;
    for (std::int64_t t = 0, begin = 0, exact = 0, remainder = 0; t < count; ++t) {
      exact += whole, remainder += over;
      if (remainder >= count) remainder -= count, ++exact;
      const std::int64_t end = std::min(rows, rounded(exact));
      task(t, begin, end);
      begin = end;
    }
  }
  // Of the rows in memory.
  std::int64_t padded() const { return rounded(rows); }
  static std::int64_t rounded(std::int64_t row) { return round_up(row, Left::kRowStep); }
  std::int64_t rows, count;
};

// What each of a panel's tiles asks for: the first the panel itself; the last ones, which find that in the cache so
// that memory is idle, the next one.
template <typename Group>
class Asking {
 public:
  Asking(const Panel<Group>& panel, std::int64_t tiles, std::int64_t width)
      : next_(panel.next),
        size_(panel.groups * kTileColumns),
        shared_(kShares > 1 && tiles > kShares && width > kLanes),
        last_(next_ == nullptr ? tiles
              : shared_        ? tiles - kShares
                               : std::max<std::int64_t>(1, tiles - 1)),
        between_(size_ * static_cast<std::int64_t>(sizeof(Group)) > kMostInFirstCache ? Fetch::near : Fetch::none) {}

  Fetch fetch(std::int64_t t) const { return t == 0 || (t >= last_ && !shared_) ? Fetch::far : between_; }
  bool share(std::int64_t t) const { return shared_ && t >= last_; }
  const Group* next(std::int64_t t) const {
    if (t < last_) return nullptr;
    return shared_ ? next_ + (t - last_) * (size_ / kShares) : next_;
  }

 private:
  const Group* next_;
  std::int64_t size_;
  bool shared_;
  std::int64_t last_;  // the first of the last ones
  Fetch between_;
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
  tiles.each([&](std::int64_t t, std::int64_t begin, std::int64_t end) {
    const std::int64_t rows = end - begin;
    const Panel<typename Left::Group> now{panel.data, panel.groups, asking.next(t)};
    const auto multiply = TileOf<Arithmetic, Left, Output>::get(rows, width, asking.fetch(t), asking.share(t));
    const Left tile = left.from_row(begin, rows, panel.groups);
    if (width == kTileColumns) return multiply(output(out.row(begin) + column, out.stride, begin), from, tile, now);
    alignas(64) float block[Left::kRows][kTileColumns];
    for (std::int64_t r = 0; std::is_same_v<Output, AddedOutput> && r < rows; ++r)
      std::fill(std::copy_n(out.row(begin + r) + column, width, block[r]), block[r] + kTileColumns, 0.0f);
    multiply(output(block[0], kTileColumns, begin), from, tile, now);
    for (std::int64_t r = 0; r < rows; ++r) copy_first(out.row(begin + r) + column, block[r], static_cast<int>(width));
  });
}

}  // namespace ember
