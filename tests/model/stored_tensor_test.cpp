#include "model/stored_tensor.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "runtime/error.h"
#include "tests/support.h"

namespace ember {
namespace {

// All halves with a sign of plus, rising, as numbers.
double half_value(std::uint16_t half) {
  const int exponent = half >> 10 & 0x1F, fraction = half & 0x3FF;
  return exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
}

TEST(ToF16, RoundsToTheNearestAndTiesToEven) {
  for (std::uint16_t half = 0; half < 0x7C00; ++half) {
    const double here = half_value(half), next = half + 1 < 0x7C00 ? half_value(half + 1) : 65536,
                 middle = (here + next) / 2;
    const std::uint16_t even = half % 2 == 0 ? half : half + 1;
    ASSERT_EQ(to_f16(here), half);
    ASSERT_EQ(to_f16(-here), half | 0x8000);
    ASSERT_EQ(to_f16(middle), even) << middle;
    ASSERT_EQ(to_f16(std::nextafter(middle, 0)), half) << middle;
    ASSERT_EQ(to_f16(std::nextafter(middle, INFINITY)), half + 1) << middle;
  }
}

TEST(ToF16, KeepsWhatIsNoNumber) {
  EXPECT_EQ(to_f16(INFINITY), 0x7C00);
  EXPECT_EQ(to_f16(-INFINITY), 0xFC00);
  EXPECT_EQ(to_f16(1e300), 0x7C00);
  EXPECT_EQ(to_f16(-0.0), 0x8000);
  EXPECT_EQ(to_f16(1e-300), 0);
  EXPECT_EQ(to_f16(std::numeric_limits<double>::quiet_NaN()) & 0x7E00, 0x7E00);
}

template <typename T>
StoredTensor tensor(const std::string& dtype, const std::vector<T>& values) {
  return {"t", dtype, {static_cast<std::int64_t>(values.size())}, std::as_bytes(std::span(values))};
}
template <typename T>
std::vector<std::uint16_t> halves(const std::string& dtype, const std::vector<T>& values) {
  std::vector<std::uint16_t> out(values.size());
  copy_elements(tensor(dtype, values), 0, static_cast<std::int64_t>(values.size()), DType::f16, out.data());
  return out;
}

TEST(CopyElements, RoundsEveryTypeOnce) {
  using Halves = std::vector<std::uint16_t>;
  // A little more than half a unit above 1: by way of a float it would become the tie, and round down.
  EXPECT_EQ(halves("F64", std::vector<double>{1 + 0x1p-11 + 0x1p-40, -0.1}), (Halves{0x3C01, 0xAE66}));
  EXPECT_EQ(halves("F32", std::vector<float>{1 + 0x1p-11f, 1 + 0x3p-11f, 0x1p-24f, 65504}),
            (Halves{0x3C00, 0x3C02, 1, 0x7BFF}));
  EXPECT_EQ(halves("F16", Halves{0x1234, 0x8001, 0x7C00}), (Halves{0x1234, 0x8001, 0x7C00}));
  EXPECT_EQ(halves("BF16", Halves{0x3F80, 0xC000, 0x7F80}), (Halves{0x3C00, 0xC000, 0x7C00}));
}

TEST(CopyElements, RefusesWhatF16CannotHold) {
  EXPECT_THROW(halves("F32", std::vector<float>{65520}), Error);
  EXPECT_THROW(halves("F64", std::vector<double>{-1e10}), Error);
  EXPECT_THROW(halves("BF16", std::vector<std::uint16_t>{0x4800}), Error);  // 2^17
  EXPECT_THROW(halves("I32", std::vector<std::int32_t>{1}), Error);
}

TEST(CopyElements, WalksStridesFromAnywhere) {
  std::vector<float> values(24);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  StoredTensor turned = tensor("F32", values);
  turned.shape = {3, 2, 4};
  turned.strides = {1, 12, 3};
  std::vector<float> expected;
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 2; ++j)
      for (int k = 0; k < 4; ++k) expected.push_back(static_cast<float>(i + 12 * j + 3 * k));
  std::vector<float> all(24);
  copy_to_f32(turned, all.data());
  EXPECT_EQ(all, expected);
  for (std::int64_t begin = 0; begin <= 24; ++begin)
    for (std::int64_t count = 0; begin + count <= 24; ++count) {
      std::vector<float> part(static_cast<std::size_t>(count));
      copy_elements(turned, begin, count, DType::f32, part.data());
      EXPECT_EQ(part, std::vector<float>(expected.begin() + begin, expected.begin() + begin + count));
    }
}

// Which is gathered a part at a time.
TEST(CopyElements, WalksStridesOfALargeTensor) {
  constexpr std::size_t kRows = 300, kColumns = 200;
  std::vector<float> floats(kRows * kColumns), expected(floats.size());
  for (std::size_t i = 0; i < floats.size(); ++i) floats[i] = static_cast<float>(i % 2039);
  for (std::size_t i = 0; i < expected.size(); ++i) expected[i] = floats[i % kRows * kColumns + i / kRows];
  const std::vector<double> doubles(floats.begin(), floats.end());
  for (StoredTensor turned : {tensor("F32", floats), tensor("F64", doubles)}) {
    turned.shape = {kColumns, kRows}, turned.strides = {1, kColumns};
    std::vector<float> all(expected.size());
    copy_to_f32(turned, all.data());
    EXPECT_EQ(all, expected);
    std::vector<std::uint16_t> rounded(expected.size());
    copy_elements(turned, 0, turned.elements(), DType::f16, rounded.data());
    EXPECT_TRUE(std::equal(rounded.begin(), rounded.end(), expected.begin(),
                           [](std::uint16_t half, float value) { return half == to_f16(value); }));
  }
}

}  // namespace
}  // namespace ember
