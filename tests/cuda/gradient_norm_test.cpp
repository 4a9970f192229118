// gradient_norm and finish_step on the device.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>

#include "tests/cuda/norm_of_finished.h"

namespace ember {
namespace {

using namespace testing;

struct Gradients {
  explicit Gradients(const std::vector<std::int64_t>& sizes, float scale = 1, Layout layout = {}) {
    unsigned seed = 0;
    for (const std::int64_t size : sizes) {
      values.push_back(testing::draw(size, ++seed, scale));
      add(layout);
    }
  }
  void add(Layout layout) {
    matrices.push_back(std::make_unique<DeviceMatrix>(DType::f32, 1, std::ssize(values.back()), values.back(), layout));
    views.push_back(matrices.back()->view);
  }
  StepState state(float loss_scale = 1) const {
    const DeviceArray<StepState> on_device(std::vector<StepState>(
        1, StepState{.loss_scale = loss_scale, .gradient_norm = -1, .finite = -1, .updates = 7}));
    testing::device().finish_gradients();  // none that were finished before lay here
    testing::device().gradient_norm(on_device.data(), views);
    return on_device.values()[0];
  }
  double expected() const {
    long double sum = 0;
    for (const std::vector<double>& value : values)
      for (const double x : value) sum += static_cast<long double>(x) * x;
    return static_cast<double>(std::sqrt(sum));
  }
  std::vector<std::vector<double>> values;
  std::vector<std::unique_ptr<DeviceMatrix>> matrices;
  std::vector<Tensor> views;
};

TEST(GradientNorm, AgreesWithTheSum) {
  for (const auto& sizes : std::vector<std::vector<std::int64_t>>{{1},
                                                                  {7},
                                                                  {16383},
                                                                  {16384},
                                                                  {16385},
                                                                  {26, 1, 312 * 40, 28, 0, 40003},
                                                                  {0, 3},
                                                                  std::vector<std::int64_t>(150, 5)})
    // Squares that a float cannot hold, and numbers on both sides of where they begin.
    for (const float scale : {1.0f, 65504.0f, 1e30f, 1e-30f, 1e18f, 1e-15f})
      for (const Layout layout : {Layout{0, 0}, Layout{0, 1}}) {
        const Gradients gradients(sizes, scale, layout);
        const double expected = gradients.expected();
        const StepState state = gradients.state();
        ASSERT_TRUE(std::isfinite(state.gradient_norm));
        EXPECT_NEAR(state.gradient_norm, expected, kNormRounding * expected);
        EXPECT_EQ(state.finite, 1);
        EXPECT_EQ(state.updates, 7);
        EXPECT_EQ(gradients.state().gradient_norm, state.gradient_norm) << "a repetition gives other bits";
      }
}

TEST(GradientNorm, AgreesWithTheCpu) {
  const Gradients gradients({312, 40000, 28});
  std::vector<std::vector<float>> values;
  std::vector<Tensor> views;
  for (const std::vector<double>& value : gradients.values) values.push_back(testing::floats(value));
  for (std::vector<float>& value : values) views.push_back(vector(value.data(), std::ssize(value)));
  StepState state{.loss_scale = 1024};
  make_cpu_kernels(Precision::fp32, 1)->gradient_norm(&state, views);
  EXPECT_NEAR(gradients.state(1024).gradient_norm, state.gradient_norm, kNormRounding * state.gradient_norm);
}

// All that the loss scale must bring below the largest float is the norm.
TEST(GradientNorm, HasRoomForTheLargestFloats) {
  Gradients gradients({});
  gradients.values.emplace_back(16385, std::numeric_limits<float>::max());
  gradients.add({});
  const double expected = gradients.expected() / 65536;
  EXPECT_NEAR(gradients.state(65536).gradient_norm, expected, kNormRounding * expected);
}

TEST(GradientNorm, NothingHasNormZero) {
  for (const Gradients& gradients : {Gradients({}), Gradients({0})}) {
    EXPECT_EQ(gradients.state().gradient_norm, 0);
    EXPECT_EQ(gradients.state().finite, 1);
  }
}

TEST(GradientNorm, IsNotFiniteWhenAnElementIsNot) {
  const double infinity = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  for (const double bad : {infinity, -infinity, nan})
    for (const std::size_t place : {std::size_t{0}, std::size_t{16383}, std::size_t{17000}}) {
      Gradients gradients({17});
      gradients.values.push_back(testing::draw(17001, 2));
      gradients.values.back()[place] = bad;
      gradients.add({});
      const StepState state = gradients.state();
      EXPECT_FALSE(std::isfinite(state.gradient_norm));
      EXPECT_EQ(state.finite, 0);
    }
}

TEST(GradientNorm, TakesTheLossScaleOut) {
  EXPECT_EQ(Gradients({312, 7}, 4096).state(4096).gradient_norm, Gradients({312, 7}).state().gradient_norm);
}

// Its sums lie where they did when it was recorded, and nothing else does, although more have needed more room since.
TEST(GradientNorm, ARecordingKeepsItsSumsBesideALargerNorm) {
  constexpr std::size_t kSums = 150, kMore = 400, kOthers = 32;
  const DeviceMatrix gradient(kFloat, 1, 2, {3, 4});
  const DeviceArray<StepState> state(std::vector<StepState>(1));
  CudaKernels kernels;
  const auto norm = [&](std::size_t count) {
    kernels.gradient_norm(state.data(), std::vector<Tensor>(count, gradient.view));
  };
  norm(kSums);
  const auto recorded = kernels.record([&] { norm(kSums); });
  norm(kMore);
  std::vector<Buffer> others;
  for (std::size_t i = 0; i < kOthers; ++i) others.push_back(kernels.allocate(kSums * sizeof(double)));
  recorded->run();
  std::vector<double> values(kSums, -1);
  for (const Buffer& other : others) {
    kernels.download(values.data(), other.data(), other.size());
    EXPECT_EQ(values, std::vector<double>(kSums)) << "overwritten";
  }
  const double expected = 5 * std::sqrt(static_cast<double>(kSums));
  EXPECT_NEAR(state.values()[0].gradient_norm, expected, kNormRounding * expected);
}

TEST(FinishStep, CountsAndAdaptsTheScale) {
  const LossScaling scaling{2000};
  const auto finish = [&](StepState state, const LossScaling& by) {
    const DeviceArray<StepState> on_device(std::vector<StepState>(1, state));
    testing::device().finish_step(on_device.data(), by, {});
    return on_device.values()[0];
  };
  const StepState clean = finish({.loss_scale = 65536, .updates = 5, .clean_steps = 3}, scaling);
  EXPECT_EQ(clean.loss_scale, 65536);
  EXPECT_EQ(clean.updates, 6);
  EXPECT_EQ(clean.clean_steps, 4);
  const StepState grown = finish({.loss_scale = 65536, .updates = 5, .clean_steps = 1999}, scaling);
  EXPECT_EQ(grown.loss_scale, 131072);
  EXPECT_EQ(grown.clean_steps, 0);
  const StepState skipped = finish({.loss_scale = 65536, .finite = 0, .updates = 5, .clean_steps = 1999}, scaling);
  EXPECT_EQ(skipped.loss_scale, 32768);
  EXPECT_EQ(skipped.updates, 5);
  EXPECT_EQ(skipped.clean_steps, 0);
  EXPECT_EQ(skipped.skipped, 1);
  EXPECT_EQ(finish({.finite = 0}, {}).loss_scale, 1);
}

TEST(FinishStep, LeavesTheScaleWhereTheLossIsNotFinite) {
  for (const float loss : {0.5f, INFINITY, NAN}) {
    const DeviceArray<StepState> state(std::vector<StepState>(1, {.loss_scale = 65536, .finite = 0}));
    const DeviceArray<float> on_device(std::vector<float>(1, loss));
    testing::device().finish_step(state.data(), {2000}, {.loss = on_device.data()});
    EXPECT_EQ(state.values()[0].loss_scale, loss == 0.5f ? 32768 : 65536) << loss;
    EXPECT_EQ(state.values()[0].skipped, 1);
  }
}

}  // namespace
}  // namespace ember
