// gelu_forward and _backward on the device against the double oracle and CpuKernels.
#include "tests/reference/gelu.h"

#include <gtest/gtest.h>

#include <stdexcept>

#include "tests/cuda/cuda_support.h"

namespace ember {
namespace {

using namespace testing;

struct GeluCase {
  std::string name;
  std::int64_t rows, cols;
  float scale = 1, dscale = 1;
};

const GeluCase kGeluCases[] = {
    {"empty", 0, 1200},
    {"one_row", 1, 1200},
    {"tinybert", 33, 1200},
    {"bert", 3, 3072},
    {"many_rows", 1100, 8},
    {"not_a_multiple_of_eight", 31, 132},
    {"odd", 33, 13},
    {"large", 9, 312, 13000, 12000},
    {"small", 9, 312, 1e-3f, 1e-5f},
};

class Gelu : public ::testing::TestWithParam<GeluCase> {
 protected:
  const std::int64_t rows = GetParam().rows, cols = GetParam().cols;
  const float scale = GetParam().scale, dscale = GetParam().dscale;
  const std::vector<double> in = draw_halves(rows * cols, 1, scale), bias = draw(cols, 2, scale / 4),
                            dout = draw_halves(rows * cols, 3, dscale);

  // out
  Results forward(Layout layout) const {
    const DeviceMatrix in_(kHalf, rows, cols, in, layout), bias_(kFloat, 1, cols, bias),
        out(kHalf, rows, cols, {}, layout);
    testing::device().gelu_forward(out.view, in_.view, bias_.view);
    return device_results({&out});
  }
  // din, dbias
  Results backward(bool alias, Layout layout) const {
    const DeviceMatrix in_(kHalf, rows, cols, in, layout), bias_(kFloat, 1, cols, bias),
        dout_(kHalf, rows, cols, dout, layout), own(kHalf, rows, cols, {}, layout), dbias(kFloat, 1, cols);
    const DeviceMatrix& din = alias ? dout_ : own;
    testing::device().gelu_backward(din.view, dbias.view, dout_.view, in_.view, bias_.view);
    return device_results({&din, &dbias});
  }
  // out, din, dbias
  Results cpu() const {
    const StridedMatrix in_(rows, cols, 0, in), bias_(1, cols, 0, bias), dout_(rows, cols, 0, dout), out(rows, cols, 0),
        din(rows, cols, 0), dbias(1, cols, 0);
    const auto kernels = make_cpu_kernels(Precision::fp32, 1);
    kernels->gelu_forward(out.view, in_.view, bias_.view);
    kernels->gelu_backward(din.view, dbias.view, dout_.view, in_.view, bias_.view);
    return testing::results({&out, &din, &dbias});
  }

  void expect_all(const Results& out, const Results& gradients) const {
    const std::vector<float> twin = to_halves(reference::gelu_forward(floats(in), floats(bias)));
    const auto [din, dbias] = reference::gelu_backward(floats(dout), floats(in), floats(bias));
    const auto exact = reference::gelu_backward(dout, in, bias);
    const Results from_cpu = cpu();
    // gelu' differs between float's erfc and the twin's by a few 1e-7; a sum of it in another order by as much a row.
    const double floor = 1e-6 * dscale + kSmallestHalf;
    const double sum_floor = 1e-6 * dscale * (1 + static_cast<double>(rows));
    EXPECT_TRUE(near_twin(out[0], twin, reference::gelu_forward(in, bias), kSmallestHalf));
    EXPECT_TRUE(near_twin(gradients[0], to_halves(din), exact.in, floor));
    EXPECT_TRUE(near_twin(gradients[1], dbias, exact.bias, sum_floor));
    EXPECT_TRUE(near_twin(out[0], twin, doubles(from_cpu[0]), kSmallestHalf + 1e-6 * scale));
    EXPECT_TRUE(near_twin(gradients[0], to_halves(din), doubles(from_cpu[1]), floor));
    EXPECT_TRUE(near_twin(gradients[1], dbias, doubles(from_cpu[2]), sum_floor));
  }
};

TEST_P(Gelu, AgreesWithTheOracleAndTheCpu) {
  expect_all(testing::run_twice([&] { return forward({}); }), testing::run_twice([&] { return backward(false, {}); }));
}

TEST_P(Gelu, OperandsMayOverlapAndBeStrided) {
  EXPECT_EQ(forward({}), forward({8, 8}));
  EXPECT_EQ(backward(false, {}), backward(true, {8, 8}));
}

TEST_P(Gelu, RowsMayBeMisaligned) {
  const Layout layout{3, 1};
  expect_all(forward(layout), backward(true, layout));
}

INSTANTIATE_TEST_SUITE_P(Shapes, Gelu, ::testing::ValuesIn(kGeluCases),
                         [](const auto& tested) { return tested.param.name; });

// Every half: each result is the half nearest the exact one, or its neighbour where float's rounding decides. erfc and
// its argument are off by 2e-6 of the result at most where that is no subnormal half, which is 0.002 of a step.
TEST(GeluValues, EveryHalf) {
  std::vector<double> in;
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = __half2float(__half(__half_raw{static_cast<unsigned short>(bits)}));
    if (std::isfinite(value)) in.push_back(value);
  }
  const auto size = static_cast<std::int64_t>(in.size()), rows = size / 1024;  // 63,488 = 62 x 1,024
  ASSERT_EQ(rows * 1024, size);
  const DeviceMatrix in_(kHalf, rows, 1024, in), bias(kFloat, 1, 1024, std::vector<double>(1024)),
      out(kHalf, rows, 1024);
  testing::device().gelu_forward(out.view, in_.view, bias.view);
  const std::vector<float> values = out.values();
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double exact = reference::gelu(in[i]), step = std::max(std::fabs(exact) * 0x1p-10, kSmallestHalf);
    ASSERT_TRUE(std::isfinite(values[i])) << in[i];
    ASSERT_LE(std::fabs(values[i] - exact), 0.505 * step) << in[i];
  }
}

TEST(GeluShapes, WrongOnesAreRefused) {
  const DeviceMatrix a(kHalf, 2, 4), b(kHalf, 3, 4), vector(kFloat, 1, 4), longer(kFloat, 1, 5);
  EXPECT_THROW(testing::device().gelu_forward(a.view, b.view, vector.view), std::logic_error);
  EXPECT_THROW(testing::device().gelu_forward(a.view, a.view, longer.view), std::logic_error);
  EXPECT_THROW(testing::device().gelu_backward(a.view, longer.view, a.view, a.view, vector.view), std::logic_error);
}

}  // namespace
}  // namespace ember
