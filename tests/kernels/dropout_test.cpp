// dropout_multipliers and dropout_multiplier_rows against the oracle, word by word, at any offset and length.
#include "kernels/cpu/dropout.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/reference/dropout.h"

namespace ember {
namespace {

constexpr float kSentinel = -7;
constexpr std::int64_t kMargin = 64;

TEST(DropoutMultipliers, AreThoseOfTheOracle) {
  const std::int64_t far = (std::int64_t{1} << 34) - 8;  // the number of the block outgrows 32 bits on the way
  for (const float probability : {0.1f, 0.5f})
    for (const std::int64_t first : {std::int64_t{0}, std::int64_t{1}, std::int64_t{2}, std::int64_t{3},
                                     std::int64_t{4}, std::int64_t{26}, std::int64_t{311}, far})
      for (const std::int64_t count : {0, 1, 2, 3, 4, 5, 26, 60, 61, 62, 63, 64, 65, 127, 128, 129, 312, 384}) {
        const Dropout dropout{probability, 0xfedcba9876543210u, 0x301, 0x80000001u};
        std::vector<float> out(static_cast<std::size_t>(kMargin + count + kMargin), kSentinel), expected = out;
        for (std::int64_t i = 0; i < count; ++i)
          expected[static_cast<std::size_t>(kMargin + i)] = reference::dropout_multiplier<float>(dropout, first + i);
        dropout_multipliers(out.data() + kMargin, first, count, dropout);
        ASSERT_EQ(out, expected) << "first " << first << ", count " << count;
      }
}

TEST(DropoutMultiplierRows, AreThoseOfTheOracle) {
  const Dropout dropout{0.1f, 0xfedcba9876543210u, 0x201, 5};
  for (const std::int64_t rows : {0, 1, 2, 5, 33})
    for (const std::int64_t count : {0, 1, 3, 4, 5, 19, 128, 129})
      for (const std::int64_t gap : {0, 4}) {
        const std::int64_t rounded = (count + 3) / 4 * 4, stride = rounded + gap, first = 7 * 4, step = 516;
        std::vector<float> out(static_cast<std::size_t>(kMargin + rows * stride + kMargin), kSentinel), expected = out;
        for (std::int64_t r = 0; r < rows; ++r)
          for (std::int64_t i = 0; i < rounded; ++i)
            expected[static_cast<std::size_t>(kMargin + r * stride + i)] =
                reference::dropout_multiplier<float>(dropout, first + r * step + i);
        dropout_multiplier_rows(out.data() + kMargin, stride, rows, first, step, count, dropout);
        ASSERT_EQ(out, expected) << "rows " << rows << ", count " << count << ", gap " << gap;
      }
}

// The number of the step may lie in memory, so that work that was recorded once draws other masks every time.
TEST(DropoutMultipliers, CountFromWhatTheStepPointsAt) {
  const std::int32_t counter = 4;
  const Dropout counted{0.5f, 1, 2, 3, &counter}, plain{0.5f, 1, 2, 7}, without{0.5f, 1, 2, 3};
  std::vector<float> of_counted(1000), of_plain(1000), of_without(1000);
  dropout_multipliers(of_counted.data(), 1, 1000, counted);
  dropout_multipliers(of_plain.data(), 1, 1000, plain);
  dropout_multipliers(of_without.data(), 1, 1000, without);
  EXPECT_EQ(of_counted, of_plain);
  EXPECT_NE(of_counted, of_without);
  std::vector<float> rows(4 * 20), rows_plain(4 * 20);
  dropout_multiplier_rows(rows.data(), 20, 4, 0, 24, 19, counted);
  dropout_multiplier_rows(rows_plain.data(), 20, 4, 0, 24, 19, plain);
  EXPECT_EQ(rows, rows_plain);
}

// An element whose word is exactly the threshold survives. Words of 24 bits are the probabilities that floats can hold.
TEST(DropoutMultipliers, TheThresholdItselfSurvives) {
  int found = 0;
  for (std::uint64_t block = 0; block < 1024; ++block) {
    const std::uint32_t word = random_block(1, 2, 3, block)[1];
    if (word % 256 != 0) continue;
    const Dropout dropout{std::ldexp(static_cast<float>(word / 256), -24), 1, 2, 3};
    ASSERT_EQ(dropout.threshold(), word);
    float out = 0;
    dropout_multipliers(&out, static_cast<std::int64_t>(4 * block + 1), 1, dropout);
    EXPECT_EQ(out, dropout.scale());
    ++found;
  }
  EXPECT_GT(found, 0);
}

// The share of dropped elements stays within 5 standard deviations of the probability, and the mean at 1.
TEST(DropoutMultipliers, HaveTheRightFrequency) {
  const std::int64_t count = 1 << 20;
  std::vector<float> out(static_cast<std::size_t>(count));
  for (const float probability : {0.1f, 0.5f}) {
    dropout_multipliers(out.data(), 0, count, {probability, 1, 2, 3});
    std::int64_t dropped = 0;
    double sum = 0;
    for (const float value : out) dropped += value == 0, sum += static_cast<double>(value);
    const double deviation = std::sqrt(static_cast<double>(count) * probability * (1 - probability));
    EXPECT_NEAR(static_cast<double>(dropped), static_cast<double>(count) * probability, 5 * deviation);
    EXPECT_NEAR(sum, static_cast<double>(count), 5 * deviation / (1 - static_cast<double>(probability)));
  }
}

}  // namespace
}  // namespace ember
