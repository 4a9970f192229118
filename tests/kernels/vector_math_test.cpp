// vector_exp, vector_tanh, vector_gelu and its slope against the library's in double; what ends loops of vectors.
#include "kernels/cpu/vector_math.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

namespace ember {
namespace {

std::vector<float> exponentials(const std::vector<float>& x) {
  std::vector<float> out(x.size());
#pragma omp simd
  for (std::size_t i = 0; i < x.size(); ++i) out[i] = vector_exp(x[i]);
  return out;
}

// Every 1021st float of both signs up to `limit` in size.
std::vector<float> floats_up_to(float limit) {
  std::vector<float> out;
  const auto end = std::bit_cast<std::uint32_t>(limit);
  for (std::uint32_t bits = 0; bits <= end; bits += 1021)
    for (const std::uint32_t sign : {0u, 0x80000000u}) out.push_back(std::bit_cast<float>(bits | sign));
  return out;
}

TEST(VectorExp, IsWithinTwoUnitsInTheLastPlace) {
  const std::vector<float> x = floats_up_to(86.98f), y = exponentials(x);
  double worst = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double expected = std::exp(static_cast<double>(x[i]));
    const double unit = std::ldexp(1.0, std::ilogb(expected) - 23);
    const double error = std::fabs(y[i] - expected) / unit;
    ASSERT_TRUE(std::isfinite(error)) << x[i];
    if (error > worst) worst = error;
  }
  EXPECT_LE(worst, 2);
  RecordProperty("worst_units", std::to_string(worst));
}

TEST(VectorExp, Ends) {
  const float infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> y = exponentials({0.0f, -0.0f, 88.72f, 88.73f, 1e30f, infinity, -86.99f, -87.5f, -110.0f,
                                             -1e30f, -infinity, std::numeric_limits<float>::quiet_NaN()});
  EXPECT_EQ(y[0], 1);
  EXPECT_EQ(y[1], 1);
  EXPECT_NEAR(y[2] / std::exp(88.72), 1, 1e-5);
  for (std::size_t i = 3; i < 6; ++i) EXPECT_EQ(y[i], infinity) << i;
  for (std::size_t i = 6; i < 11; ++i) EXPECT_EQ(y[i], 0) << i;
  EXPECT_TRUE(std::isnan(y[11]));
}

TEST(VectorTanh, IsWithinTwoUnitsInTheLastPlace) {
  const std::vector<float> x = floats_up_to(20);
  std::vector<float> y(x.size());
#pragma omp simd
  for (std::size_t i = 0; i < x.size(); ++i) y[i] = vector_tanh(x[i]);
  double worst = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double expected = std::tanh(static_cast<double>(x[i]));
    const double unit = std::ldexp(1.0, std::max(std::ilogb(expected), -126) - 23);
    const double error = std::fabs(y[i] - expected) / (expected == 0 ? std::ldexp(1.0, -149) : unit);
    ASSERT_TRUE(std::isfinite(error)) << x[i];
    if (error > worst) worst = error;
  }
  EXPECT_LE(worst, 2);
  RecordProperty("worst_units", std::to_string(worst));
}

TEST(VectorTanh, Ends) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(vector_tanh(infinity), 1);
  EXPECT_EQ(vector_tanh(-infinity), -1);
  EXPECT_EQ(vector_tanh(1e30f), 1);
  EXPECT_EQ(vector_tanh(-0.0f), 0);
  EXPECT_TRUE(std::isnan(vector_tanh(std::numeric_limits<float>::quiet_NaN())));
}

TEST(VectorGelu, AgreesWithTheErrorFunction) {
  const std::vector<float> x = floats_up_to(13);
  for (const float value : x) {
    const double z = value, cumulative = std::erfc(-z / std::numbers::sqrt2) / 2, expected = z * cumulative;
    const double density = std::exp(-z * z / 2) / std::sqrt(2 * std::numbers::pi);
    const float gelu = vector_gelu(value);
    ASSERT_LE(std::fabs(gelu - expected), 1e-7 * std::max(1.0, std::fabs(z))) << value;
    ASSERT_LE(std::fabs(vector_gelu_slope(value) - (cumulative + z * density)), 2e-7) << value;
    // The exponent, z² / 2, is rounded: by 6e-8 of it. A half of the smallest numbers is rounded too. The rest was 2e-6
    // until every float from -13 to -2 was tried: with fused multiply-adds one is off by more, without 61, by up
    // to 2.4e-6.
    const double relative = 2.5e-6 + 6e-8 * z * z / 2;
    if (value < -1e-30f) {
      ASSERT_LE(std::fabs(gelu / expected - 1), relative) << value;
    }
  }
}

TEST(VectorGelu, Ends) {
  const float infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(vector_gelu(infinity), infinity);
  EXPECT_EQ(vector_gelu(1e30f), 1e30f);
  for (const float x : {-14.0f, -1e30f, -infinity}) {
    EXPECT_EQ(vector_gelu(x), 0) << x;
    EXPECT_EQ(vector_gelu_slope(x), 0) << x;
    EXPECT_EQ(vector_gelu_slope(-x), 1) << -x;
  }
  EXPECT_EQ(vector_gelu(0.0f), 0);
  EXPECT_EQ(vector_gelu_slope(0.0f), 0.5f);
  EXPECT_TRUE(std::isnan(vector_gelu(nan)));
  EXPECT_TRUE(std::isnan(vector_gelu_slope(nan)));
}

TEST(CopyFirst, CopiesThoseAndTouchesNoOther) {
  float lanes[16];
  for (int j = 0; j < 16; ++j) lanes[j] = static_cast<float>(j + 1);
  for (int count = 0; count <= 16; ++count) {
    float to[17] = {};
    copy_first(to, lanes, count);
    for (int j = 0; j < 17; ++j) ASSERT_EQ(to[j], j < count ? static_cast<float>(j + 1) : 0.0f) << count << " " << j;
  }
}

// Integers, whose sums are exact in any order.
TEST(SumOf, HasEveryTermOnce) {
  for (std::int64_t size = 0; size <= 12 * kLanes; ++size)
    ASSERT_EQ(sum_of(size, [](std::int64_t i) { return static_cast<float>(i + 1); }),
              static_cast<float>(size * (size + 1) / 2))
        << size;
}

}  // namespace
}  // namespace ember
