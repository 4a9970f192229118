// gradient_norm: the value, its independence from threads, and what is not finite.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "kernels/kernels.h"
#include "tests/kernels/strided.h"

namespace ember {
namespace {

// A sum of squares in double is exact to far below a float, so the norm must be the nearest float or its neighbour.
constexpr double kRounding = 1.2e-7;

struct Gradients {
  explicit Gradients(const std::vector<std::int64_t>& sizes, float scale = 1) {
    unsigned seed = 0;
    for (const std::int64_t size : sizes) {
      const std::vector<double> drawn = testing::draw(size, ++seed, scale);
      values.emplace_back(drawn.begin(), drawn.end());
    }
    for (std::vector<float>& value : values) views.push_back(vector(value.data(), std::ssize(value)));
  }
  StepState state(int threads, float loss_scale = 1) const {
    StepState result{.loss_scale = loss_scale, .gradient_norm = -1, .finite = -1};
    make_cpu_kernels(Precision::fp32, threads)->gradient_norm(&result, views);
    return result;
  }
  float norm(int threads) const { return state(threads).gradient_norm; }
  double expected() const {
    long double sum = 0;
    for (const std::vector<float>& value : values)
      for (const float x : value) sum += static_cast<long double>(x) * x;
    return static_cast<double>(std::sqrt(sum));
  }
  std::vector<std::vector<float>> values;
  std::vector<Tensor> views;
};

TEST(GradientNorm, AgreesWithTheSum) {
  for (const auto& sizes : std::vector<std::vector<std::int64_t>>{
           {1}, {7}, {8191}, {8192}, {8193}, {26, 1, 312 * 312, 28, 0, 100003}, {0, 3}})
    for (const float scale : {1.0f, 1e30f, 1e-30f}) {  // squares that a float cannot hold
      const Gradients gradients(sizes, scale);
      const double expected = gradients.expected();
      EXPECT_NEAR(gradients.norm(2), expected, kRounding * expected);
    }
}

TEST(GradientNorm, NothingHasNormZero) {
  EXPECT_EQ(Gradients({}).norm(2), 0);
  EXPECT_EQ(Gradients({0}).norm(2), 0);
}

TEST(GradientNorm, GivesTheSameBitsOnAnyThreads) {
  const Gradients gradients({26, 312 * 312, 100003, 5});
  const float norm = gradients.norm(1);
  for (const int threads : {1, 2, 3, 7}) EXPECT_EQ(gradients.norm(threads), norm);
}

TEST(GradientNorm, IsNotFiniteWhenAnElementIsNot) {
  const float infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  for (const float bad : {infinity, -infinity, nan})
    for (const std::size_t tensor : {std::size_t{0}, std::size_t{1}})
      for (const std::size_t place : {std::size_t{0}, std::size_t{8191}, std::size_t{9000}}) {
        Gradients gradients({9001, 9001});
        gradients.values[tensor][place] = bad;
        EXPECT_FALSE(std::isfinite(gradients.norm(2)));
        EXPECT_EQ(gradients.state(2).finite, 0);
      }
}

TEST(GradientNorm, TakesTheLossScaleOut) {
  const Gradients gradients({312, 7}, 4096), unscaled({312, 7});
  EXPECT_EQ(gradients.state(2, 4096).gradient_norm, unscaled.norm(2));
  EXPECT_EQ(gradients.state(2, 4096).finite, 1);
}

// Micikevicius et al. 2018, section 3.2, with the numbers of the reference recipe.
TEST(FinishStep, CountsAndAdaptsTheScale) {
  const auto kernels = make_cpu_kernels(Precision::fp32, 1);
  const LossScaling scaling{2000};
  StepState state{.loss_scale = 65536};
  const auto steps = [&](int count, std::int32_t finite) {
    state.finite = finite;
    for (int i = 0; i < count; ++i) kernels->finish_step(&state, scaling, {});
  };
  steps(1999, 1);
  EXPECT_EQ(state.loss_scale, 65536);
  steps(1, 1);
  EXPECT_EQ(state.loss_scale, 131072);
  EXPECT_EQ(state.clean_steps, 0);
  steps(1500, 1), steps(2, 0);
  EXPECT_EQ(state.loss_scale, 32768);
  EXPECT_EQ(state.clean_steps, 0);
  EXPECT_EQ(state.skipped, 2);
  EXPECT_EQ(state.updates, 3500);
  steps(1999, 1);
  EXPECT_EQ(state.loss_scale, 32768);
  steps(1, 1);
  EXPECT_EQ(state.loss_scale, 65536);
  steps(200, 0);
  EXPECT_EQ(state.loss_scale, 0x1p-24f);
  steps(2000 * 60, 1);
  EXPECT_EQ(state.loss_scale, 0x1p24f);
}

TEST(FinishStep, LeavesAFixedScaleAlone) {
  const auto kernels = make_cpu_kernels(Precision::fp32, 1);
  StepState state{.finite = 0};
  kernels->finish_step(&state, {}, {});
  state.finite = 1;
  for (int i = 0; i < 3000; ++i) kernels->finish_step(&state, {}, {});
  EXPECT_EQ(state.loss_scale, 1);
  EXPECT_EQ(state.updates, 3000);
  EXPECT_EQ(state.skipped, 1);
}

TEST(FinishStep, RecordsAStepWhoseLossIsNotTold) {
  const auto kernels = make_cpu_kernels(Precision::fp32, 1);
  StepState state{.gradient_norm = 3, .steps = 5};
  std::vector<StepRecord> records(4, {7, {}});
  kernels->finish_step(&state, {}, {nullptr, records.data(), 4, nullptr});
  EXPECT_EQ(records[1].loss, 0);
  EXPECT_EQ(records[1].state.gradient_norm, 3);
  EXPECT_EQ(records[1].state.steps, 6);
}

}  // namespace
}  // namespace ember
