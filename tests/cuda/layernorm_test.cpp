// residual_layernorm_forward and _backward on the device against the double oracle and CpuKernels.
#include "tests/reference/layernorm.h"

#include <gtest/gtest.h>

#include <stdexcept>

#include "tests/cuda/cuda_support.h"

namespace ember {
namespace {

using namespace testing;

constexpr float kLayerNormEpsilon = 1e-12f;
// f32 sums in another order than the twin's: for 1,000 terms both are off by a few 1e-7 of the largest, here below 10.
constexpr double kLayerNormFloor = 1e-5;

struct LayerNormCase {
  std::string name;
  std::int64_t rows, cols;
  float probability;
  float scale = 1;   // of the activations
  float dscale = 1;  // of the gradients
  float epsilon = kLayerNormEpsilon;
};

const LayerNormCase kLayerNormCases[] = {
    {"empty", 0, 312, 0.1f},
    {"one_row", 1, 312, 0.1f},
    {"two_rows", 2, 384, 0.0f},
    {"tinybert", 33, 312, 0.1f},
    {"two_warps_a_row", 5, 388, 0.1f},
    {"four_warps_a_row", 5, 900, 0.1f},
    {"without_dropout", 31, 312, 0.0f},
    {"half_dropped", 32, 384, 0.5f},
    {"bert", 17, 768, 0.1f},
    {"widest_in_registers", 9, 1024, 0.1f},
    {"wider_than_registers", 9, 1032, 0.1f},
    {"narrow", 129, 4, 0.1f},
    {"not_a_multiple_of_four", 33, 30, 0.1f},
    {"odd", 10, 13, 0.1f},
    {"large", 9, 312, 0.1f, 12000, 12000},  // 4 deviations and the residual's are 62,000, near the largest half
    {"small", 9, 312, 0.1f, 1e-3f, 1e-5f},
    // A row's variance is about a tenth of the epsilon.
    {"large_epsilon", 9, 312, 0.1f, 1e-3f, 1e-3f, 1e-5f},
    {"large_epsilon_four_warps_a_row", 5, 900, 0.1f, 1e-3f, 1e-3f, 1e-5f},
    {"large_epsilon_wider_than_registers", 5, 1032, 0.1f, 1e-3f, 1e-3f, 1e-5f},
    {"large_epsilon_odd", 10, 13, 0.1f, 1e-3f, 1e-3f, 1e-5f},
};

class ResidualLayerNorm : public ::testing::TestWithParam<LayerNormCase> {
 protected:
  const std::int64_t rows = GetParam().rows, cols = GetParam().cols;
  const float scale = GetParam().scale, dscale = GetParam().dscale, epsilon = GetParam().epsilon;
  const Dropout dropout{GetParam().probability, 0x123456789abcdef0u, 0x302, 77};
  const std::vector<double> in = draw_halves(rows * cols, 1, scale), bias = draw(cols, 2, scale / 4),
                            residual = draw_halves(rows * cols, 3, scale / 4), weight = draw(cols, 4),
                            norm_bias = draw(cols, 5), dout = draw_halves(rows * cols, 6, dscale),
                            dbranch = draw_halves(rows * cols, 7, dscale);

  enum class Alias { none, in, residual };
  // out, sum, mean, rstd
  Results forward(Alias alias, Layout layout) const {
    const DeviceMatrix in_(kHalf, rows, cols, in, layout), residual_(kHalf, rows, cols, residual, layout),
        bias_(kFloat, 1, cols, bias), weight_(kFloat, 1, cols, weight), norm_bias_(kFloat, 1, cols, norm_bias);
    const DeviceMatrix out(kHalf, rows, cols, {}, layout), own_sum(kHalf, rows, cols, {}, layout),
        mean(kFloat, 1, rows), rstd(kFloat, 1, rows);
    const DeviceMatrix& sum = alias == Alias::in ? in_ : alias == Alias::residual ? residual_ : own_sum;
    testing::device().residual_layernorm_forward(out.view, sum.view, {mean.view, rstd.view}, in_.view, bias_.view,
                                                 residual_.view, {weight_.view, norm_bias_.view}, epsilon, dropout);
    return device_results({&out, &sum, &mean, &rstd});
  }

  // in_place: dresidual in dout's memory, din in dbranch's; crossed: the other way round.
  enum class Into { own, in_place, crossed };
  // dresidual, din, dbias, dweight, dnorm_bias; from what forward left.
  Results backward(const Results& saved, bool branch, Into into, Layout layout) const {
    const DeviceMatrix sum(kHalf, rows, cols, doubles(saved[1]), layout), mean(kFloat, 1, rows, doubles(saved[2])),
        rstd(kFloat, 1, rows, doubles(saved[3])), dout_(kHalf, rows, cols, dout, layout),
        dbranch_(kHalf, rows, cols, dbranch, layout), weight_(kFloat, 1, cols, weight);
    const DeviceMatrix one(kHalf, rows, cols, {}, layout), other(kHalf, rows, cols, {}, layout), dbias(kFloat, 1, cols),
        dweight(kFloat, 1, cols), dnorm_bias(kFloat, 1, cols);
    const DeviceMatrix& dresidual = into == Into::own ? one : into == Into::in_place ? dout_ : dbranch_;
    const DeviceMatrix& din = into == Into::own ? other : into == Into::in_place ? dbranch_ : dout_;
    testing::device().residual_layernorm_backward(dresidual.view, din.view, dbias.view, {dweight.view, dnorm_bias.view},
                                                  dout_.view, branch ? dbranch_.view : Tensor{}, sum.view,
                                                  {mean.view, rstd.view}, {weight_.view, weight_.view}, dropout);
    return device_results({&dresidual, &din, &dbias, &dweight, &dnorm_bias});
  }

  // The same by CpuKernels.
  Results cpu_forward() const {
    const StridedMatrix in_(rows, cols, 0, in), residual_(rows, cols, 0, residual), bias_(1, cols, 0, bias),
        weight_(1, cols, 0, weight), norm_bias_(1, cols, 0, norm_bias), out(rows, cols, 0), sum(rows, cols, 0),
        mean(1, rows, 0), rstd(1, rows, 0);
    make_cpu_kernels(Precision::fp32, 1)
        ->residual_layernorm_forward(out.view, sum.view, {mean.view, rstd.view}, in_.view, bias_.view, residual_.view,
                                     {weight_.view, norm_bias_.view}, epsilon, dropout);
    return testing::results({&out, &sum, &mean, &rstd});
  }
  Results cpu_backward(const Results& saved, bool branch) const {
    const StridedMatrix sum(rows, cols, 0, doubles(saved[1])), mean(1, rows, 0, doubles(saved[2])),
        rstd(1, rows, 0, doubles(saved[3])), dout_(rows, cols, 0, dout), dbranch_(rows, cols, 0, dbranch),
        weight_(1, cols, 0, weight);
    const StridedMatrix dresidual(rows, cols, 0), din(rows, cols, 0), dbias(1, cols, 0), dweight(1, cols, 0),
        dnorm_bias(1, cols, 0);
    make_cpu_kernels(Precision::fp32, 1)
        ->residual_layernorm_backward(dresidual.view, din.view, dbias.view, {dweight.view, dnorm_bias.view}, dout_.view,
                                      branch ? dbranch_.view : Tensor{}, sum.view, {mean.view, rstd.view},
                                      {weight_.view, weight_.view}, dropout);
    return testing::results({&dresidual, &din, &dbias, &dweight, &dnorm_bias});
  }

  template <typename T>
  reference::ResidualLayerNorm<T> oracle() const {
    return {{{weight.begin(), weight.end()}, {norm_bias.begin(), norm_bias.end()}, epsilon}, dropout};
  }

  void expect_forward(const Results& actual) const {
    const Results cpu = cpu_forward();
    const auto single = oracle<float>();
    const std::vector<float> sum = to_halves(single.sum(floats(in), floats(bias), floats(residual)));
    const std::vector<float> out = to_halves(single.norm.forward(sum));
    const auto moments = single.norm.statistics(sum);
    const auto exact_sum = oracle<double>().sum(in, bias, residual);
    const auto exact = oracle<double>().norm.statistics(exact_sum);
    EXPECT_TRUE(near_twin(actual[0], out, oracle<double>().norm.forward(exact_sum), kLayerNormFloor));
    EXPECT_TRUE(near_twin(actual[1], sum, exact_sum, kSmallestHalf));
    EXPECT_TRUE(near_twin(actual[2], moments.mean, exact.mean, kLayerNormFloor * scale));
    EXPECT_TRUE(near_twin(actual[3], moments.rstd, exact.rstd, kLayerNormFloor / scale));
    EXPECT_TRUE(near_twin(actual[0], out, doubles(cpu[0]), kLayerNormFloor));
    EXPECT_TRUE(near_twin(actual[1], sum, doubles(cpu[1]), kSmallestHalf));
  }

  void expect_backward(const Results& saved, const Results& actual, bool branch) const {
    const auto gradient = reference::output_gradient(dout, branch ? dbranch : std::vector<double>{});
    auto twin = oracle<float>().backward(floats(gradient), saved[1]);
    twin.residual = to_halves(twin.residual), twin.in = to_halves(twin.in);
    const auto exact = oracle<double>().backward(gradient, doubles(saved[1]));
    const double floor = kLayerNormFloor * dscale / scale + kSmallestHalf;
    const double sum_floor = kLayerNormFloor * dscale * (1 + std::sqrt(static_cast<double>(rows)));
    const std::vector<float>* const twins[] = {&twin.residual, &twin.in, &twin.bias, &twin.weight, &twin.norm_bias};
    const std::vector<double>* const exacts[] = {&exact.residual, &exact.in, &exact.bias, &exact.weight,
                                                 &exact.norm_bias};
    const double floors[] = {floor, floor, sum_floor / scale, sum_floor, sum_floor};
    const Results cpu = cpu_backward(saved, branch);
    for (std::size_t i = 0; i < actual.size(); ++i) {
      EXPECT_TRUE(near_twin(actual[i], *twins[i], *exacts[i], floors[i])) << "result " << i;
      EXPECT_TRUE(near_twin(actual[i], *twins[i], doubles(cpu[i]), floors[i])) << "result " << i;
    }
  }
};

TEST_P(ResidualLayerNorm, AgreesWithTheOracleAndTheCpu) {
  const Results saved = testing::run_twice([&] { return forward(Alias::none, {}); });
  expect_forward(saved);
  for (const bool branch : {false, true})
    expect_backward(saved, testing::run_twice([&] { return backward(saved, branch, Into::own, {}); }), branch);
}

// Dropped elements are those of the CPU: there, and only there, the sum is the residual.
TEST_P(ResidualLayerNorm, DropsWhatTheCpuDrops) {
  const Results actual = forward(Alias::none, {});
  const auto multipliers = reference::dropout_multipliers<float>(dropout, static_cast<std::size_t>(rows * cols));
  for (std::size_t i = 0; i < multipliers.size(); ++i) {
    if (multipliers[i] == 0) {
      ASSERT_EQ(actual[1][i], static_cast<float>(residual[i])) << i;
    }
  }
}

TEST_P(ResidualLayerNorm, OperandsMayOverlapAndBeStrided) {
  const Results plain = forward(Alias::none, {});
  for (const Alias alias : {Alias::in, Alias::residual}) EXPECT_EQ(plain, forward(alias, {4, 0}));
  for (const bool branch : {false, true})
    for (const Into into : {Into::in_place, Into::crossed})
      EXPECT_EQ(backward(plain, branch, Into::own, {}), backward(plain, branch, into, {8, 4}));
}

// Where vectors cannot be read.
TEST_P(ResidualLayerNorm, RowsMayBeMisaligned) {
  for (const Layout layout : {Layout{3, 0}, Layout{0, 1}}) {
    const Results saved = forward(Alias::in, layout);
    expect_forward(saved);
    for (const bool branch : {false, true})
      expect_backward(saved, backward(saved, branch, Into::in_place, layout), branch);
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, ResidualLayerNorm, ::testing::ValuesIn(kLayerNormCases),
                         [](const auto& tested) { return tested.param.name; });

class ManyRows : public ResidualLayerNorm {};

// Than backward's warps have at a time.
TEST_P(ManyRows, BackwardAgreesWithTheOracleAndTheCpu) {
  const Results saved = forward(Alias::none, {});
  expect_backward(saved, backward(saved, true, Into::own, {}), true);
}

const LayerNormCase kManyRows[] = {
    {"a_warp_each", 2200, 16, 0.1f}, {"two_warps_each", 1060, 388, 0.1f}, {"four_warps_each", 530, 772, 0.1f}};
INSTANTIATE_TEST_SUITE_P(Shapes, ManyRows, ::testing::ValuesIn(kManyRows),
                         [](const auto& tested) { return tested.param.name; });

// A row without variance is all epsilon: its normalised values are zeros where the mean is exact.
TEST(LayerNorm, ConstantRowGivesTheBias) {
  const std::int64_t cols = 312;
  const std::vector<double> zeros(cols), halves(cols, 0.5), biases = draw(cols, 2);
  const DeviceMatrix in(kHalf, 1, cols, halves), residual(kHalf, 1, cols, zeros), zero(kFloat, 1, cols, zeros),
      weight(kFloat, 1, cols, draw(cols, 1)), bias(kFloat, 1, cols, biases), out(kHalf, 1, cols), sum(kHalf, 1, cols),
      mean(kFloat, 1, 1), rstd(kFloat, 1, 1);
  testing::device().residual_layernorm_forward(out.view, sum.view, {mean.view, rstd.view}, in.view, zero.view,
                                               residual.view, {weight.view, bias.view}, kLayerNormEpsilon, {});
  EXPECT_EQ(out.values(), to_halves(floats(biases)));
  EXPECT_EQ(mean.values()[0], 0.5f);
  EXPECT_NEAR(rstd.values()[0], 1e6, 1);
}

TEST(LayerNorm, WrongShapesAreRefused) {
  const DeviceMatrix a(kHalf, 2, 4), other(kHalf, 2, 5), vector(kFloat, 1, 4), moments(kFloat, 1, 2), few(kFloat, 1, 1),
      single(kFloat, 2, 4);
  const LayerNormTensors norm{vector.view, vector.view};
  const auto forward = [&](Tensor in, Tensor bias, Tensor mean) {
    testing::device().residual_layernorm_forward(a.view, a.view, {mean, moments.view}, in, bias, a.view, norm,
                                                 kLayerNormEpsilon, {});
  };
  EXPECT_NO_THROW(forward(a.view, vector.view, moments.view));
  EXPECT_THROW(forward(other.view, vector.view, moments.view), std::logic_error);
  EXPECT_THROW(forward(single.view, vector.view, moments.view), std::logic_error) << "f32 activations";
  EXPECT_THROW(forward(a.view, moments.view, moments.view), std::logic_error);
  EXPECT_THROW(forward(a.view, vector.view, few.view), std::logic_error);
  const auto backward = [&](Tensor dout, Tensor dbranch) {
    testing::device().residual_layernorm_backward(a.view, a.view, vector.view, norm, dout, dbranch, a.view,
                                                  {moments.view, moments.view}, norm, {});
  };
  EXPECT_THROW(backward(other.view, {}), std::logic_error);
  EXPECT_THROW(backward(a.view, other.view), std::logic_error);
  EXPECT_THROW(backward(a.view, single.view), std::logic_error);
}

}  // namespace
}  // namespace ember
