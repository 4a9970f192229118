// sigmoid_bce against the double oracle, far into saturation.
#include "tests/reference/sigmoid_bce.h"

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

struct SigmoidBceCase {
  std::int64_t rows, cols;
  float spread;
};

class SigmoidBce : public ::testing::TestWithParam<SigmoidBceCase> {
 protected:
  const std::int64_t rows = GetParam().rows, cols = GetParam().cols;
  const float scale = 1024;
  const std::vector<double> logits = draw(rows * cols, 1, GetParam().spread);
  std::vector<double> targets = draw(rows * cols, 2);

  void SetUp() override {
    for (double& target : targets) target = target > 1 ? 1 : 0;
  }

  // loss, dlogits, probabilities
  Results run(Kernels& kernels, std::int64_t gap) const {
    const StridedMatrix logits_(rows, cols, gap, logits), targets_(rows, cols, 0, targets), loss(1, 1, 0),
        dlogits(rows, cols, gap), probabilities(rows, cols, gap);
    const StepState state{.loss_scale = scale};
    kernels.sigmoid_bce(loss.view, dlogits.view, probabilities.view, logits_.view, targets_.view, &state);
    return results({&loss, &dlogits, &probabilities});
  }
};

// Exponential, sum and quotient are each rounded once: 4 of 6e-8. A gradient loses to cancellation what the
// probability has gained in rounding, relative to 1.
TEST_P(SigmoidBce, AgreesWithTheOracle) {
  const Results actual = testing::run_reproducibly([&](Kernels& kernels) { return run(kernels, 0); });
  const auto expected = reference::sigmoid_bce(logits, targets, static_cast<double>(scale));
  EXPECT_TRUE(all_close(actual[0], std::vector<double>{expected.loss}, 0, 3e-7));
  const double count = static_cast<double>(std::max<std::int64_t>(rows * cols, 1));
  EXPECT_TRUE(all_close(actual[1], expected.dlogits, 2.4e-7 * scale / count, 2.4e-7));
  EXPECT_TRUE(all_close(actual[2], expected.probabilities, 1e-38, 2.4e-7));
  EXPECT_EQ(actual, [&] {
    const auto kernels = make_cpu_kernels(Precision::fp32, 1);
    return run(*kernels, 3);
  }());
}

INSTANTIATE_TEST_SUITE_P(Shapes, SigmoidBce,
                         ::testing::Values(SigmoidBceCase{0, 28, 1}, SigmoidBceCase{1, 28, 1},
                                           SigmoidBceCase{2, 28, 30}, SigmoidBceCase{16, 28, 1},
                                           SigmoidBceCase{31, 28, 5}, SigmoidBceCase{33, 28, 30},
                                           SigmoidBceCase{308, 28, 3}, SigmoidBceCase{3, 1, 1}),
                         [](const auto& tested) {
                           return std::to_string(tested.param.rows) + "x" + std::to_string(tested.param.cols) +
                                  "_spread" + std::to_string(static_cast<int>(tested.param.spread));
                         });

// Rows beyond the targets, a batch's filling: scored, but no part of loss and gradient.
TEST_P(SigmoidBce, RowsWithoutTargetsCountForNothing) {
  const auto kernels = make_cpu_kernels(Precision::fp32, 1);
  const Results expected = run(*kernels, 0);
  std::vector<double> more = logits;
  more.resize(static_cast<std::size_t>((rows + 2) * cols), 3.0);
  const StridedMatrix logits_(rows + 2, cols, 0, more), targets_(rows, cols, 0, targets), loss(1, 1, 0),
      dlogits(rows + 2, cols, 0), probabilities(rows + 2, cols, 0);
  const StepState state{.loss_scale = scale};
  kernels->sigmoid_bce(loss.view, dlogits.view, probabilities.view, logits_.view, targets_.view, &state);
  Results actual = results({&loss, &dlogits, &probabilities});
  const auto filling = static_cast<std::size_t>(2 * cols);
  EXPECT_EQ(std::vector<float>(actual[1].end() - 2 * cols, actual[1].end()), std::vector<float>(filling, 0.0f));
  EXPECT_EQ(actual[2].back(), 1 / (1 + std::exp(-3.0f)));
  for (const std::size_t i : {1u, 2u}) actual[i].resize(actual[i].size() - filling);
  EXPECT_EQ(actual, expected);
}

// At +-100 the loss of a wrong answer is 100 and that of a right one 3.7e-44, in float a subnormal.
TEST(SigmoidBceSaturated, IsFiniteAndRight) {
  const auto kernels = make_cpu_kernels(Precision::fp32, 1);
  const auto run = [&](double logit, double target) {
    const StridedMatrix logits(1, 1, 0, {logit}), targets(1, 1, 0, {target}), loss(1, 1, 0), dlogits(1, 1, 0),
        probabilities(1, 1, 0);
    kernels->sigmoid_bce(loss.view, dlogits.view, probabilities.view, logits.view, targets.view, nullptr);
    return std::vector<float>{loss.values()[0], dlogits.values()[0], probabilities.values()[0]};
  };
  EXPECT_EQ(run(100, 0), (std::vector<float>{100, 1, 1}));
  EXPECT_EQ(run(-100, 1)[0], 100);
  EXPECT_EQ(run(-100, 1)[1], -1);
  for (const auto& [logit, target] : {std::pair{100.0, 1.0}, {-100.0, 0.0}}) {
    const std::vector<float> right = run(logit, target);
    EXPECT_GE(right[0], 0);
    EXPECT_LT(right[0], 4e-44f);
    EXPECT_LT(std::fabs(right[1]), 4e-44f);
    EXPECT_NEAR(right[2], target, 4e-44);
  }
  EXPECT_EQ(run(0, 1)[2], 0.5f);
}

TEST(SigmoidBceOutputs, EmptyOnesAreNotComputed) {
  const auto kernels = make_cpu_kernels(Precision::fp32, 1);
  const std::vector<double> x = draw(6, 1), y{0, 1, 0, 0, 1, 0};
  const StridedMatrix logits(2, 3, 0, x), targets(2, 3, 0, y), loss(1, 1, 0), dlogits(2, 3, 0), probabilities(2, 3, 0);
  kernels->sigmoid_bce(loss.view, dlogits.view, probabilities.view, logits.view, targets.view, nullptr);
  const StridedMatrix lone_loss(1, 1, 0), lone_dlogits(2, 3, 0), lone_probabilities(2, 3, 0);
  kernels->sigmoid_bce({}, {}, lone_probabilities.view, logits.view, {}, nullptr);
  kernels->sigmoid_bce(lone_loss.view, {}, {}, logits.view, targets.view, nullptr);
  kernels->sigmoid_bce({}, lone_dlogits.view, {}, logits.view, targets.view, nullptr);
  EXPECT_EQ(lone_probabilities.values(), probabilities.values());
  EXPECT_EQ(lone_loss.values(), loss.values());
  EXPECT_EQ(lone_dlogits.values(), dlogits.values());
  EXPECT_THROW(kernels->sigmoid_bce(loss.view, {}, {}, logits.view, {}, nullptr), std::logic_error);
  EXPECT_THROW(kernels->sigmoid_bce({}, dlogits.view, {}, logits.view, {}, nullptr), std::logic_error);
  EXPECT_THROW(kernels->sigmoid_bce({}, {}, loss.view, logits.view, {}, nullptr), std::logic_error);
}

// The loss of an empty batch is 0, not 0 / 0.
TEST(SigmoidBceOutputs, EmptyBatch) {
  const auto kernels = make_cpu_kernels(Precision::fp32, 1);
  const StridedMatrix none(0, 28, 0), loss(1, 1, 0);
  kernels->sigmoid_bce(loss.view, none.view, none.view, none.view, none.view, nullptr);
  EXPECT_EQ(loss.values()[0], 0);
}

}  // namespace
}  // namespace ember
