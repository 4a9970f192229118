// residual_layernorm_forward and _backward against the double oracle.
#include "tests/reference/layernorm.h"

#include <gtest/gtest.h>

#include <stdexcept>

#include "tests/kernels/reproducible.h"

namespace ember {
namespace {

using testing::all_close;
using testing::draw;
using testing::Results;
using testing::results;
using testing::StridedMatrix;

constexpr float kLayerNormEpsilon = 1e-12f;

struct LayerNormCase {
  std::int64_t rows, cols;
  float probability;
  float epsilon = kLayerNormEpsilon;
};

// Rows and columns around chunks and vectors; (0, C) is the empty batch.
std::vector<LayerNormCase> layernorm_cases() {
  std::vector<LayerNormCase> all;
  for (const std::int64_t rows : {0, 1, 2, 31, 33, 308})
    for (const std::int64_t cols : {26, 32, 312, 384, 768})
      for (const float probability : {0.0f, 0.1f, 0.5f})
        if (cols < 384 || probability == 0.1f) all.push_back({rows, cols, probability});
  all.push_back({5, 3, 0.1f});
  all.push_back({6, 312, 0.1f, 0.5f});  // near the variance
  all.push_back({4097, 7, 0.1f});
  return all;
}

class ResidualLayerNorm : public ::testing::TestWithParam<LayerNormCase> {
 protected:
  const std::int64_t rows = GetParam().rows, cols = GetParam().cols;
  const float epsilon = GetParam().epsilon;
  const Dropout dropout{GetParam().probability, 0x123456789abcdef0u, 0x302, 77};
  const std::vector<double> in = draw(rows * cols, 1), bias = draw(cols, 2), residual = draw(rows * cols, 3),
                            weight = draw(cols, 4), norm_bias = draw(cols, 5), dout = draw(rows * cols, 6),
                            dbranch = draw(rows * cols, 7);
  const reference::ResidualLayerNorm<double> oracle{{weight, norm_bias, epsilon}, dropout};
  const StridedMatrix bias_{1, cols, 0, bias}, weight_{1, cols, 0, weight}, norm_bias_{1, cols, 0, norm_bias};
  const LayerNormTensors norm{weight_.view, norm_bias_.view};

  enum class Alias { none, in, residual };
  // out, sum, mean, rstd
  Results forward(Kernels& kernels, Alias alias, std::int64_t gap) const {
    const StridedMatrix in_(rows, cols, gap, in), residual_(rows, cols, gap, residual);
    const StridedMatrix out(rows, cols, gap), own_sum(rows, cols, gap), mean(1, rows, 0), rstd(1, rows, 0);
    const StridedMatrix& sum = alias == Alias::in ? in_ : alias == Alias::residual ? residual_ : own_sum;
    kernels.residual_layernorm_forward(out.view, sum.view, {mean.view, rstd.view}, in_.view, bias_.view, residual_.view,
                                       norm, epsilon, dropout);
    return results({&out, &sum, &mean, &rstd});
  }

  // in_place: dresidual in dout's memory, din in dbranch's; crossed: the other way round.
  enum class Into { own, in_place, crossed };
  // dresidual, din, dbias, dweight, dnorm_bias; from what forward left.
  Results backward(Kernels& kernels, const Results& saved, bool branch, Into into, std::int64_t gap) const {
    const auto doubles = [](const std::vector<float>& values) {
      return std::vector<double>(values.begin(), values.end());
    };
    const StridedMatrix sum(rows, cols, gap, doubles(saved[1])), mean(1, rows, 0, doubles(saved[2])),
        rstd(1, rows, 0, doubles(saved[3])), dout_(rows, cols, gap, dout), dbranch_(rows, cols, gap, dbranch);
    const StridedMatrix one(rows, cols, gap), other(rows, cols, gap), dbias(1, cols, 0), dweight(1, cols, 0),
        dnorm_bias(1, cols, 0);
    const StridedMatrix& dresidual = into == Into::own ? one : into == Into::in_place ? dout_ : dbranch_;
    const StridedMatrix& din = into == Into::own ? other : into == Into::in_place ? dbranch_ : dout_;
    kernels.residual_layernorm_backward(dresidual.view, din.view, dbias.view, {dweight.view, dnorm_bias.view},
                                        dout_.view, branch ? dbranch_.view : Tensor{}, sum.view, {mean.view, rstd.view},
                                        norm, dropout);
    return results({&dresidual, &din, &dbias, &dweight, &dnorm_bias});
  }
};

// The sum is three roundings of numbers below 10 (and twice that with half of them dropped): 4e-6 is 4 of 2^-21 / 2.
// The LayerNorm adds those of the mean, the deviation and the product, of numbers below 20 relative to them.
TEST_P(ResidualLayerNorm, ForwardAgreesWithTheOracle) {
  const Results actual = testing::run_reproducibly([&](Kernels& kernels) { return forward(kernels, Alias::none, 0); });
  const auto sum = oracle.sum(in, bias, residual);
  const auto [mean, rstd] = oracle.norm.statistics(sum);
  EXPECT_TRUE(all_close(actual[1], sum, 4e-6, 0));
  EXPECT_TRUE(all_close(actual[2], mean, 4e-6, 0));
  EXPECT_TRUE(all_close(actual[3], rstd, 0, 4e-6));
  EXPECT_TRUE(all_close(actual[0], oracle.norm.forward(sum), 1e-5, 0));
}

TEST_P(ResidualLayerNorm, BackwardAgreesWithTheOracle) {
  const auto kernels = make_cpu_kernels(Precision::fp32, 1);
  const Results saved = forward(*kernels, Alias::none, 0);
  for (const bool branch : {false, true}) {
    SCOPED_TRACE(branch);
    const Results actual =
        testing::run_reproducibly([&](Kernels& kernels) { return backward(kernels, saved, branch, Into::own, 0); });
    const auto expected = oracle.backward(reference::output_gradient(dout, branch ? dbranch : std::vector<double>{}),
                                          oracle.sum(in, bias, residual));
    // Numbers below 20 again; dropout scales them by up to 2, a second gradient by as much.
    const double size = branch ? 2 : 1;
    EXPECT_TRUE(all_close(actual[0], expected.residual, size * 1e-5, 0));
    EXPECT_TRUE(all_close(actual[1], expected.in, size * 2e-5, 0));
    const double atol = size * testing::sum_tolerance(rows);
    EXPECT_TRUE(all_close(actual[2], expected.bias, 2 * atol, 0));
    EXPECT_TRUE(all_close(actual[3], expected.weight, atol, 1e-6));
    EXPECT_TRUE(all_close(actual[4], expected.norm_bias, atol, 0));
  }
}

TEST_P(ResidualLayerNorm, OperandsMayOverlapAndBeStrided) {
  const auto kernels = make_cpu_kernels(Precision::fp32, 2);
  const Results plain = forward(*kernels, Alias::none, 0);
  for (const Alias alias : {Alias::none, Alias::in, Alias::residual}) EXPECT_EQ(plain, forward(*kernels, alias, 3));
  for (const bool branch : {false, true})
    for (const Into into : {Into::in_place, Into::crossed})
      EXPECT_EQ(backward(*kernels, plain, branch, Into::own, 0), backward(*kernels, plain, branch, into, 5));
}

INSTANTIATE_TEST_SUITE_P(Shapes, ResidualLayerNorm, ::testing::ValuesIn(layernorm_cases()), [](const auto& tested) {
  return std::to_string(tested.param.rows) + "x" + std::to_string(tested.param.cols) + "_dropout" +
         std::to_string(static_cast<int>(100 * tested.param.probability));
});

// A row without variance is all epsilon: its normalised values are zeros, exactly where the mean is exact.
TEST(LayerNorm, ConstantRowGivesTheBias) {
  const std::int64_t cols = 312;
  const auto kernels = make_cpu_kernels(Precision::fp32, 1);
  const StridedMatrix in(1, cols, 0, std::vector<double>(cols, 0.5)), zeros(1, cols, 0, std::vector<double>(cols)),
      weight(1, cols, 0, draw(cols, 1)), bias(1, cols, 0, draw(cols, 2)), out(1, cols, 0), sum(1, cols, 0),
      mean(1, 1, 0), rstd(1, 1, 0);
  kernels->residual_layernorm_forward(out.view, sum.view, {mean.view, rstd.view}, in.view, zeros.view, zeros.view,
                                      {weight.view, bias.view}, kLayerNormEpsilon, {});
  EXPECT_EQ(out.values(), bias.values());
  EXPECT_EQ(mean.values()[0], 0.5f);
  EXPECT_NEAR(rstd.values()[0], 1e6, 1);
}

TEST(LayerNorm, WrongShapesAreRefused) {
  const auto kernels = make_cpu_kernels(Precision::fp32, 1);
  const StridedMatrix a(2, 4, 0), other(2, 5, 0), vector(1, 4, 0), moments(1, 2, 0), few(1, 1, 0);
  const LayerNormTensors norm{vector.view, vector.view};
  const auto forward = [&](Tensor in, Tensor bias, Tensor mean) {
    kernels->residual_layernorm_forward(a.view, a.view, {mean, moments.view}, in, bias, a.view, norm, kLayerNormEpsilon,
                                        {});
  };
  EXPECT_NO_THROW(forward(a.view, vector.view, moments.view));
  EXPECT_THROW(forward(other.view, vector.view, moments.view), std::logic_error);
  EXPECT_THROW(forward(a.view, moments.view, moments.view), std::logic_error);
  EXPECT_THROW(forward(a.view, vector.view, few.view), std::logic_error);
  const auto backward = [&](Tensor dout, Tensor dbranch) {
    kernels->residual_layernorm_backward(a.view, dout, vector.view, norm, dout, dbranch, a.view,
                                         {moments.view, moments.view}, norm, {});
  };
  EXPECT_NO_THROW(backward(a.view, {}));
  EXPECT_THROW(backward(other.view, {}), std::logic_error);
  EXPECT_THROW(backward(a.view, other.view), std::logic_error);
}

}  // namespace
}  // namespace ember
