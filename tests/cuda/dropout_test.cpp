// The device's dropout masks, of cuRAND's generator, are those of runtime/philox.h: seen through the tanh of numbers
// that it takes to 1, whose dropout leaves the multipliers.
#include "tests/reference/dropout.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/cuda/cuda_support.h"

namespace ember {
namespace {

using namespace testing;

std::vector<float> multipliers(std::int64_t rows, std::int64_t cols, const Dropout& dropout) {
  const auto ones = static_cast<std::size_t>(rows * cols);
  const DeviceMatrix in(DType::f16, rows, cols, std::vector<double>(ones, 20)),
      bias(DType::f32, 1, cols, std::vector<double>(static_cast<std::size_t>(cols))), out(DType::f16, rows, cols);
  testing::device().tanh_forward(out.view, in.view, in.view, bias.view, dropout);
  return out.values();
}

TEST(DeviceDropout, IsThatOfPhilox) {
  const Dropout cases[] = {{0.1f, 42, 0x100, 0},
                           {0.5f, 0x123456789abcdef0u, 0x302, 77},
                           {0.9f, ~std::uint64_t{0}, ~std::uint32_t{0}, ~std::uint32_t{0}},
                           {0.001f, std::uint64_t{1} << 63, 0x500, 10856},
                           {0.0f, 42, 0x100, 1}};
  for (const Dropout& dropout : cases)
    for (const std::int64_t cols : {312, 13}) {  // vectors of four and single elements
      const std::int64_t rows = 40;
      const auto expected =
          testing::to_halves(reference::dropout_multipliers<float>(dropout, static_cast<std::size_t>(rows * cols)));
      EXPECT_EQ(multipliers(rows, cols, dropout), expected) << dropout.probability << ", " << cols << " columns";
    }
}

// The number of the step may lie in the device's memory, so that a recorded step draws other masks every time.
TEST(DeviceDropout, CountsFromWhatTheStepPointsAt) {
  const Buffer counter = testing::device().allocate(sizeof(std::int32_t));
  const std::int32_t four = 4;
  testing::device().upload(counter.data(), &four, sizeof four);
  const Dropout counted{0.5f, 42, 0x100, 3, static_cast<const std::int32_t*>(counter.data())};
  EXPECT_EQ(multipliers(8, 312, counted), multipliers(8, 312, {0.5f, 42, 0x100, 7}));
  EXPECT_NE(multipliers(8, 312, counted), multipliers(8, 312, {0.5f, 42, 0x100, 3}));
}

// As on the CPU, a word that is the threshold itself survives.
TEST(DeviceDropout, TheThresholdItselfSurvives) {
  constexpr std::int64_t kCols = 2048;
  int found = 0;
  for (std::int64_t c = 0; c < kCols; ++c) {
    const std::uint32_t word = random_block(1, 2, 3, static_cast<std::uint64_t>(c / 4))[c % 4];
    if (word % 256 != 0) continue;
    const Dropout dropout{std::ldexp(static_cast<float>(word / 256), -24), 1, 2, 3};
    ASSERT_EQ(dropout.threshold(), word);
    EXPECT_GT(multipliers(1, kCols, dropout)[static_cast<std::size_t>(c)], 0) << c;
    ++found;
  }
  EXPECT_GT(found, 0);
}

TEST(DeviceDropout, DropsTheShareThatItShould) {
  const std::vector<float> values = multipliers(320, 312, {0.1f, 42, 0x100, 5});
  const auto dropped = static_cast<double>(std::count(values.begin(), values.end(), 0.0f));
  // The standard deviation of the share is sqrt(0.1 x 0.9 / 99,840) = 0.00095.
  EXPECT_NEAR(dropped / static_cast<double>(values.size()), 0.1, 0.004);
}

}  // namespace
}  // namespace ember
