// gelu_forward and gelu_backward against the double oracle.
#include "tests/reference/gelu.h"

#include <gtest/gtest.h>

#include <limits>
#include <stdexcept>

#include "tests/kernels/reproducible.h"

namespace ember {
namespace {

using testing::all_close;
using testing::draw;
using testing::Results;
using testing::results;
using testing::StridedMatrix;

struct GeluCase {
  std::int64_t rows, cols;
};

class Gelu : public ::testing::TestWithParam<GeluCase> {
 protected:
  const std::int64_t rows = GetParam().rows, cols = GetParam().cols;
  const std::vector<double> in = draw(rows * cols, 1, 2), bias = draw(cols, 2), dout = draw(rows * cols, 3);
  const StridedMatrix bias_{1, cols, 0, bias};

  Results forward(Kernels& kernels, bool alias, std::int64_t gap) const {
    const StridedMatrix in_(rows, cols, gap, in), own_out(rows, cols, gap);
    const StridedMatrix& out = alias ? in_ : own_out;
    kernels.gelu_forward(out.view, in_.view, bias_.view);
    return results({&out});
  }
  // din, dbias
  Results backward(Kernels& kernels, bool alias, std::int64_t gap) const {
    const StridedMatrix in_(rows, cols, gap, in), dout_(rows, cols, gap, dout), own_din(rows, cols, gap),
        dbias(1, cols, 0);
    const StridedMatrix& din = alias ? dout_ : own_din;
    kernels.gelu_backward(din.view, dbias.view, dout_.view, in_.view, bias_.view);
    return results({&din, &dbias});
  }
};

// x = in + bias, at most about 12, is rounded by up to 5e-7, Phi is off by 1e-7, and so is the product relatively.
TEST_P(Gelu, AgreesWithTheOracle) {
  const Results out = testing::run_reproducibly([&](Kernels& kernels) { return forward(kernels, false, 0); });
  EXPECT_TRUE(all_close(out[0], reference::gelu_forward(in, bias), 1e-6, 4e-7));
  const Results gradients = testing::run_reproducibly([&](Kernels& kernels) { return backward(kernels, false, 0); });
  const auto expected = reference::gelu_backward(dout, in, bias);
  EXPECT_TRUE(all_close(gradients[0], expected.in, 2e-6, 4e-7));
  EXPECT_TRUE(all_close(gradients[1], expected.bias, testing::sum_tolerance(rows), 4e-7));
}

TEST_P(Gelu, OperandsMayOverlapAndBeStrided) {
  const auto kernels = make_cpu_kernels(Precision::fp32, 2);
  EXPECT_EQ(forward(*kernels, false, 0), forward(*kernels, true, 3));
  EXPECT_EQ(backward(*kernels, false, 0), backward(*kernels, true, 3));
}

INSTANTIATE_TEST_SUITE_P(Shapes, Gelu,
                         ::testing::Values(GeluCase{0, 1200}, GeluCase{1, 1200}, GeluCase{2, 26}, GeluCase{31, 33},
                                           GeluCase{33, 312}, GeluCase{308, 1200}, GeluCase{16, 1}, GeluCase{2049, 13}),
                         [](const auto& tested) {
                           return std::to_string(tested.param.rows) + "x" + std::to_string(tested.param.cols);
                         });

// The whole of the axis, as the kernels' own instructions compute it. In the tail on the left gelu vanishes like
// exp(-x² / 2), whose exponent (85 at -13) is rounded by 4e-6.
TEST(GeluTail, StaysRelativelyRight) {
  std::vector<double> in;
  for (int i = -13000; i <= 13000; ++i) in.push_back(static_cast<float>(i) / 1000);
  const auto cols = static_cast<std::int64_t>(in.size());
  const auto kernels = make_cpu_kernels(Precision::fp32, 1);
  const std::vector<double> zeros(in.size()), ones(in.size(), 1.0);
  const StridedMatrix in_(1, cols, 0, in), bias(1, cols, 0, zeros), dout(1, cols, 0, ones), out(1, cols, 0),
      din(1, cols, 0), dbias(1, cols, 0);
  kernels->gelu_forward(out.view, in_.view, bias.view);
  EXPECT_TRUE(all_close(out.values(), reference::gelu_forward(in, zeros), 0, 6e-6));
  kernels->gelu_backward(din.view, dbias.view, dout.view, in_.view, bias.view);
  EXPECT_TRUE(all_close(din.values(), reference::gelu_backward(ones, in, zeros).in, 2e-7, 2e-7));
  EXPECT_EQ(din.values(), dbias.values());
}

TEST(GeluTail, FarOutItIsTheIdentityOrZero) {
  const std::int64_t cols = 8;
  const auto kernels = make_cpu_kernels(Precision::fp32, 1);
  const StridedMatrix in(1, cols, 0, {20, 100, 1e19, 3e38, -20, -100, -1e19, -3e38}),
      bias(1, cols, 0, std::vector<double>(cols)), dout(1, cols, 0, std::vector<double>(cols, 1.0)), out(1, cols, 0),
      din(1, cols, 0), dbias(1, cols, 0);
  kernels->gelu_forward(out.view, in.view, bias.view);
  EXPECT_EQ(out.values(), (std::vector<float>{20, 100, 1e19f, 3e38f, 0, 0, 0, 0}));
  kernels->gelu_backward(din.view, dbias.view, dout.view, in.view, bias.view);
  EXPECT_EQ(din.values(), (std::vector<float>{1, 1, 1, 1, 0, 0, 0, 0}));
}

TEST(GeluTail, NaNStaysNaN) {
  const auto kernels = make_cpu_kernels(Precision::fp32, 1);
  const StridedMatrix in(1, 9, 0, std::vector<double>(9, std::numeric_limits<double>::quiet_NaN())),
      bias(1, 9, 0, std::vector<double>(9)), out(1, 9, 0, std::vector<double>(9));
  kernels->gelu_forward(out.view, in.view, bias.view);
  for (const float value : out.values()) EXPECT_TRUE(std::isnan(value));
}

TEST(GeluShapes, WrongOnesAreRefused) {
  const auto kernels = make_cpu_kernels(Precision::fp32, 1);
  const StridedMatrix a(2, 4, 0), b(3, 4, 0), vector(1, 4, 0), longer(1, 5, 0);
  EXPECT_THROW(kernels->gelu_forward(a.view, b.view, vector.view), std::logic_error);
  EXPECT_THROW(kernels->gelu_forward(a.view, a.view, longer.view), std::logic_error);
  EXPECT_THROW(kernels->gelu_backward(a.view, longer.view, a.view, a.view, vector.view), std::logic_error);
}

}  // namespace
}  // namespace ember
