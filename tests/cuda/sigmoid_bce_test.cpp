// sigmoid_bce on the device against the double oracle and CpuKernels.
#include "tests/reference/sigmoid_bce.h"

#include <gtest/gtest.h>

#include <stdexcept>

#include "tests/cuda/cuda_support.h"

namespace ember {
namespace {

using namespace testing;

struct SigmoidBceCase {
  std::int64_t rows, cols;
  float scale;       // of the logits
  float loss_scale;  // 1: no state
};

class SigmoidBce : public ::testing::TestWithParam<SigmoidBceCase> {
 protected:
  const std::int64_t rows = GetParam().rows, cols = GetParam().cols;
  const float loss_scale = GetParam().loss_scale;
  const std::vector<double> logits = draw(rows * cols, 1, GetParam().scale);
  const std::vector<double> targets = [this] {
    std::vector<double> zeros_and_ones = draw(rows * cols, 2);
    for (double& value : zeros_and_ones) value = value > 1 ? 1 : 0;
    return zeros_and_ones;
  }();
  const DeviceArray<StepState> state{std::vector<StepState>(1, StepState{.loss_scale = loss_scale})};

  // loss, dlogits, probabilities
  Results run(Layout layout) const {
    const DeviceMatrix x(kFloat, rows, cols, logits, layout), y(kFloat, rows, cols, targets, layout),
        loss(kFloat, 1, 1), dlogits(kHalf, rows, cols, {}, layout), probabilities(kFloat, rows, cols, {}, layout);
    testing::device().sigmoid_bce(loss.view, dlogits.view, probabilities.view, x.view, y.view,
                                  loss_scale == 1 ? nullptr : state.data());
    return device_results({&loss, &dlogits, &probabilities});
  }
  Results cpu() const {
    const StridedMatrix x(rows, cols, 0, logits), y(rows, cols, 0, targets), loss(1, 1, 0), dlogits(rows, cols, 0),
        probabilities(rows, cols, 0);
    const StepState host{.loss_scale = loss_scale};
    make_cpu_kernels(Precision::fp32, 1)
        ->sigmoid_bce(loss.view, dlogits.view, probabilities.view, x.view, y.view, &host);
    return testing::results({&loss, &dlogits, &probabilities});
  }
};

TEST_P(SigmoidBce, AgreesWithTheOracleAndTheCpu) {
  const Results actual = testing::run_twice([&] { return run({}); }), from_cpu = cpu();
  EXPECT_EQ(actual, run({5, 1}));
  const auto twin = reference::sigmoid_bce<float>(floats(logits), floats(targets), loss_scale);
  const auto exact = reference::sigmoid_bce<double>(logits, targets, loss_scale);
  const std::vector<float> dlogits = to_halves(twin.dlogits);
  EXPECT_TRUE(near_twin(actual[0], {twin.loss}, {exact.loss}, 1e-6 * (1 + exact.loss)));
  EXPECT_TRUE(near_twin(actual[1], dlogits, exact.dlogits, kSmallestHalf));
  EXPECT_TRUE(near_twin(actual[2], twin.probabilities, exact.probabilities, 1e-7));
  EXPECT_TRUE(near_twin(actual[0], {twin.loss}, doubles(from_cpu[0]), 1e-6 * (1 + exact.loss)));
  EXPECT_TRUE(near_twin(actual[1], dlogits, doubles(from_cpu[1]), kSmallestHalf));
  EXPECT_TRUE(near_twin(actual[2], twin.probabilities, doubles(from_cpu[2]), 1e-7));
}

TEST_P(SigmoidBce, RowsWithoutTargetsCountForNothing) {
  const Results expected = run({});
  std::vector<double> more = logits;
  more.resize(static_cast<std::size_t>((rows + 2) * cols), 3.0);
  const DeviceMatrix x(kFloat, rows + 2, cols, more), y(kFloat, rows, cols, targets), loss(kFloat, 1, 1),
      dlogits(kHalf, rows + 2, cols), probabilities(kFloat, rows + 2, cols);
  testing::device().sigmoid_bce(loss.view, dlogits.view, probabilities.view, x.view, y.view,
                                loss_scale == 1 ? nullptr : state.data());
  Results actual = device_results({&loss, &dlogits, &probabilities});
  const auto filling = static_cast<std::size_t>(2 * cols);
  EXPECT_EQ(std::vector<float>(actual[1].end() - 2 * cols, actual[1].end()), std::vector<float>(filling, 0.0f));
  EXPECT_NEAR(actual[2].back(), 1 / (1 + std::exp(-3.0f)), 1e-6f);
  for (const std::size_t i : {1u, 2u}) actual[i].resize(actual[i].size() - filling);
  EXPECT_EQ(actual[1], expected[1]);
  EXPECT_EQ(actual[2], expected[2]);
  // The sum over the threads has another order where there are more elements.
  EXPECT_NEAR(actual[0][0], expected[0][0], 1e-6f * (1 + expected[0][0]));
}

TEST_P(SigmoidBce, OutputsThatAreNotWantedStayAway) {
  const DeviceMatrix x(kFloat, rows, cols, logits), y(kFloat, rows, cols, targets), loss(kFloat, 1, 1),
      dlogits(kHalf, rows, cols), probabilities(kFloat, rows, cols);
  testing::device().sigmoid_bce({}, {}, probabilities.view, x.view, {}, nullptr);
  testing::device().sigmoid_bce(loss.view, {}, {}, x.view, y.view, nullptr);
  testing::device().sigmoid_bce({}, dlogits.view, {}, x.view, y.view, state.data());
  EXPECT_EQ(device_results({&loss, &dlogits, &probabilities}), run({}));
}

INSTANTIATE_TEST_SUITE_P(Shapes, SigmoidBce,
                         ::testing::Values(SigmoidBceCase{1, 1, 1, 1}, SigmoidBceCase{1, 28, 2, 65536},
                                           SigmoidBceCase{16, 28, 2, 65536}, SigmoidBceCase{33, 28, 10, 1024},
                                           SigmoidBceCase{300, 28, 1, 65536}, SigmoidBceCase{7, 5, 40, 1}));

// Logits far beyond where a probability rounds to 0 or 1.
TEST(SigmoidBceValues, StayFiniteAtTheEdges) {
  const std::vector<double> logits{65504, -65504, 1e30, -1e30, 0, -0.0}, targets{1, 0, 0, 1, 1, 0};
  const DeviceMatrix x(kFloat, 1, 6, logits), y(kFloat, 1, 6, targets), loss(kFloat, 1, 1), dlogits(kHalf, 1, 6),
      probabilities(kFloat, 1, 6);
  testing::device().sigmoid_bce(loss.view, dlogits.view, probabilities.view, x.view, y.view, nullptr);
  EXPECT_FLOAT_EQ(loss.values()[0], static_cast<float>(2e30 / 6));
  EXPECT_EQ(probabilities.values(), (std::vector<float>{1, 0, 1, 0, 0.5f, 0.5f}));
  EXPECT_EQ(dlogits.values(), to_halves(std::vector<float>{0, 0, 1.f / 6, -1.f / 6, -1.f / 12, 1.f / 12}));
}

// What a loss scale makes too large for a half must show as infinity, for gradient_norm to find.
TEST(SigmoidBceValues, AGradientBeyondHalvesIsInfinite) {
  const DeviceArray<StepState> state(std::vector<StepState>(1, StepState{.loss_scale = 0x1p+24f}));
  const DeviceMatrix x(kFloat, 1, 2, {5, -5}), y(kFloat, 1, 2, {0, 1}), dlogits(kHalf, 1, 2);
  testing::device().sigmoid_bce({}, dlogits.view, {}, x.view, y.view, state.data());
  EXPECT_EQ(dlogits.values(), (std::vector<float>{INFINITY, -INFINITY}));
}

TEST(SigmoidBceShapes, EmptyAndWrongOnes) {
  const DeviceMatrix none(kFloat, 0, 28), no_gradient(kHalf, 0, 28), loss(kFloat, 1, 1), x(kFloat, 2, 28),
      dlogits(kHalf, 2, 28), narrow(kFloat, 2, 27);
  testing::device().sigmoid_bce(loss.view, no_gradient.view, none.view, none.view, none.view, nullptr);
  EXPECT_EQ(loss.values()[0], 0);
  const auto run = [&](Tensor l, Tensor d, Tensor p, Tensor y) {
    testing::device().sigmoid_bce(l, d, p, x.view, y, nullptr);
  };
  EXPECT_THROW(run(x.view, {}, {}, x.view), std::logic_error);
  EXPECT_THROW(run({}, x.view, {}, x.view), std::logic_error) << "an f32 gradient";
  EXPECT_THROW(run({}, {}, narrow.view, {}), std::logic_error);
  EXPECT_THROW(run(loss.view, dlogits.view, {}, narrow.view), std::logic_error);
  EXPECT_THROW(run(loss.view, {}, {}, {}), std::logic_error);
}

}  // namespace
}  // namespace ember
