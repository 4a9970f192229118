// round_weights on the device: to the nearest even, of any layout.
#include <gtest/gtest.h>

#include <limits>
#include <stdexcept>

#include "tests/cuda/cuda_support.h"

namespace ember {
namespace {

using namespace testing;

TEST(RoundWeights, RoundsEveryElementOfEveryLayout) {
  for (const auto& [rows, cols] :
       {std::pair<std::int64_t, std::int64_t>{0, 312}, {1, 1}, {28, 312}, {33, 30}, {7, 13}}) {
    const std::vector<double> weights = testing::draw(rows * cols, 1);
    for (const Layout layout : {Layout{}, Layout{4, 4}, Layout{3, 1}}) {
      const Results actual = testing::run_twice([&, rows = rows, cols = cols] {
        const DeviceMatrix weight(kFloat, rows, cols, weights, layout), working(kHalf, rows, cols, {}, layout);
        testing::device().round_weights(working.view, weight.view);
        return device_results({&working});
      });
      EXPECT_EQ(actual[0], testing::to_halves(testing::floats(weights)));
    }
  }
}

TEST(RoundWeights, RoundsToTheNearestEven) {
  const float infinity = std::numeric_limits<float>::infinity();
  const std::vector<std::pair<float, float>> cases{{1 + 0x1p-11f, 1},  // a tie goes to the even neighbour below
                                                   {1 + 3 * 0x1p-11f, 1 + 4 * 0x1p-11f},  // and above
                                                   {1 + 0x1.002p-11f, 1 + 2 * 0x1p-11f},
                                                   {-(1 + 3 * 0x1p-11f), -(1 + 4 * 0x1p-11f)},
                                                   {65504, 65504},
                                                   {65519, 65504},
                                                   {65520, infinity},
                                                   {-1e30f, -infinity},
                                                   {0x1p-24f, 0x1p-24f},
                                                   {0x1p-25f, 0},
                                                   {3 * 0x1p-26f, 0x1p-24f},
                                                   {1e-30f, 0}};
  std::vector<double> weights;
  for (const auto& [from, to] : cases) weights.push_back(from);
  const auto count = std::ssize(cases);
  const DeviceMatrix weight(kFloat, 1, count, weights), working(kHalf, 1, count);
  testing::device().round_weights(working.view, weight.view);
  const std::vector<float> actual = working.values();
  for (std::size_t i = 0; i < cases.size(); ++i) EXPECT_EQ(actual[i], cases[i].second) << cases[i].first;
}

TEST(RoundWeights, WrongShapesAreRefused) {
  const DeviceMatrix half(kHalf, 2, 3), single(kFloat, 2, 3), wide(kFloat, 2, 4);
  EXPECT_THROW(testing::device().round_weights(half.view, wide.view), std::logic_error);
  EXPECT_THROW(testing::device().round_weights(single.view, single.view), std::logic_error);
  EXPECT_THROW(testing::device().round_weights(half.view, half.view), std::logic_error);
}

}  // namespace
}  // namespace ember
