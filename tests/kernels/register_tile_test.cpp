// How rows become tiles, and products of tiles with every kind of output: in the kernels some are AVX-512's alone.
#include "kernels/cpu/register_tile.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "tests/kernels/strided.h"
#include "tests/reference/linear.h"
#include "tests/support.h"

namespace ember {
namespace {

template <int kMostRows, int kStep>
struct Steps {
  static constexpr int kRows = kMostRows, kRowStep = kStep;
};

// Every row is in one tile, and none is higher than those before it or than tiles may be; but for the last, heights are
// whole steps and differ by one at most.
template <typename Left>
void expect_tiles_of(std::int64_t rows) {
  const RowTiles<Left> tiles(rows);
  ASSERT_EQ(tiles.count, (rows + Left::kRows - 1) / Left::kRows);
  ASSERT_EQ(tiles.begin(0), 0);
  ASSERT_EQ(tiles.begin(tiles.count), rows);
  for (std::int64_t t = 0; t < tiles.count; ++t) {
    const std::int64_t height = tiles.height(t);
    ASSERT_EQ(height, tiles.begin(t + 1) - tiles.begin(t));
    ASSERT_GT(height, 0);
    ASSERT_LE(height, t == 0 ? Left::kRows : tiles.height(t - 1));
    if (t + 1 == tiles.count) continue;
    ASSERT_EQ(height % Left::kRowStep, 0);
    ASSERT_LE(tiles.height(0) - height, Left::kRowStep);
  }
}

// other_height leaves none out, ends no run early where all rows are in memory, and goes no further than it is told.
template <typename Left>
void expect_runs_of(std::int64_t rows) {
  const RowTiles<Left> tiles(rows);
  for (std::int64_t t = 0; t < tiles.count; ++t)
    for (std::int64_t end = t + 1; end <= tiles.count; ++end) {
      const std::int64_t other = tiles.other_height(t, end);
      ASSERT_GT(other, t);
      ASSERT_LE(other, end);
      for (std::int64_t u = t; u < other; ++u) ASSERT_EQ(tiles.height(u), tiles.height(t));
      if (other < end && rows == tiles.padded()) {
        ASSERT_NE(tiles.height(other), tiles.height(t));
      }
    }
}

TEST(RowTiles, AreOfNearlyEqualHeightTheHigherOnesFirst) {
  for (std::int64_t rows = 0; rows < 200; ++rows) {
    SCOPED_TRACE(rows);
    expect_tiles_of<Steps<6, 1>>(rows);
    expect_runs_of<Steps<6, 1>>(rows);
    expect_tiles_of<Steps<32, 16>>(rows);  // of AMX
    expect_runs_of<Steps<32, 16>>(rows);
  }
}

// out (rows, columns) = start, or what is there, + in x weightᵀ, from tiles that lie one after the other.
template <typename OutputOf>
void expect_product(std::int64_t rows, std::int64_t columns, std::int64_t inner, bool started, bool has_next,
                    const OutputOf& output) {
  using Left = TiledLeft<float>;
  const auto in = testing::draw(rows * inner, 1), weight = testing::draw(columns * inner, 2);
  const auto start = testing::draw(columns, 3), before = testing::draw(rows * columns, 4);
  constexpr bool kAdded = std::is_same_v<decltype(output(nullptr, 0, 0)), AddedOutput>;
  std::vector<double> expected =
      reference::linear_forward(in, weight, started ? start : std::vector<double>{}, rows, columns, inner);
  for (std::size_t i = 0; kAdded && i < expected.size(); ++i) expected[i] += before[i];

  std::vector<float> left(static_cast<std::size_t>(rows * inner) + 1);
  const RowTiles<Left> tiles(rows);
  for (std::int64_t t = 0; t < tiles.count; ++t)
    for (std::int64_t r = tiles.begin(t); r < tiles.begin(t + 1); ++r) {
      const std::vector<float> row(in.begin() + r * inner, in.begin() + (r + 1) * inner);
      Left::put_row(left.data() + tiles.begin(t) * inner, r - tiles.begin(t), tiles.height(t), row.data(), inner);
    }
  const std::vector<float> start_(start.begin(), start.end());
  const testing::StridedMatrix out(rows, columns, 3, before);
  for (std::int64_t column = 0; column < columns; column += kTileColumns) {
    std::vector<float> panel(static_cast<std::size_t>(inner * kTileColumns) + 1);
    for (std::int64_t c = column; c < std::min(columns, column + kTileColumns); ++c)
      for (std::int64_t k = 0; k < inner; ++k)
        panel[static_cast<std::size_t>(k * kTileColumns + c - column)] =
            static_cast<float>(weight[static_cast<std::size_t>(c * inner + k)]);
    multiply_panel<FloatProduct>(out.view, started ? start_.data() : nullptr, Left{left.data()},
                                 {panel.data(), inner, has_next ? panel.data() : nullptr}, column, output);
  }
  EXPECT_TRUE((testing::all_close<float, double>(out.values(), expected, 1e-4, 0)))
      << rows << " x " << columns << " x " << inner << " started " << started << " next " << has_next;
  EXPECT_TRUE(out.intact());
}

TEST(MultiplyPanel, OfTiledRowsSumsAndAdds) {
  for (const std::int64_t rows : {0, 1, 5, 6, 7, 12, 13, 4 * kTileRows, 4 * kTileRows + 1, 9 * kTileRows - 2})
    for (const std::int64_t columns : {1, kLanes, kLanes + 1, kTileColumns, 2 * kTileColumns + 3})
      for (const std::int64_t inner : {0, 1, 30})
        for (const bool has_next : {false, true}) {
          expect_product(rows, columns, inner, true, has_next, kSumsOutput);
          expect_product(rows, columns, inner, false, has_next, kSumsOutput);
          expect_product(rows, columns, inner, false, has_next, kAddedOutput);
        }
  expect_product(50, kTileColumns, 900, true, true, kSumsOutput);  // a panel that no first-level cache holds
}

}  // namespace
}  // namespace ember
