#include "train/evaluation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#include "model/batches.h"
#include "runtime/error.h"
#include "runtime/philox.h"
#include "tests/support.h"

namespace ember {
namespace {

// A small random model and a random data set whose lengths run from 2 to 30; row 5 has no label, row 6 all of them.
class EvaluationTest : public ::testing::Test {
 protected:
  void SetUp() override {
    config_.vocabulary = 50, config_.hidden = 24, config_.layers = 2, config_.heads = 3, config_.ffn = 40;
    config_.positions = 32, config_.labels = {"a", "b", "c", "d", "e"}, config_.initializer_range = 0.3f;
    kernels_ = make_cpu_kernels(Precision::fp32, 1);
    weights_ = std::make_unique<BertWeights>(config_, *kernels_);
    draw_all(*weights_, config_.initializer_range, 3, *kernels_);
    for (std::uint64_t row = 0; row < 41; ++row) add_row(row);
  }

  void add_row(std::uint64_t row) {
    const std::size_t length = 2 + random_block(1, 0, 0, row)[0] % 29;
    std::vector<std::int32_t> tokens, labels;
    for (std::uint64_t i = 0; i < length; ++i)
      tokens.push_back(static_cast<std::int32_t>(1 + random_block(2, 0, static_cast<std::uint32_t>(row), i)[0] % 49));
    for (std::int32_t k = 0; k < 5; ++k)
      if (row == 6 || (row != 5 && (row + static_cast<std::uint64_t>(k) * 3) % 4 == 0)) labels.push_back(k);
    dataset_.append(tokens, labels);
  }

  Bert bert(Purpose purpose) { return Bert(config_, *weights_, *kernels_, purpose, {64, 8}); }

  // Logits of one row computed alone.
  std::vector<float> logits_alone(Bert& model, std::int64_t row) {
    Batches batches(*kernels_, config_, dataset_);
    batches.reorder(std::vector<std::int64_t>{row});
    const Tensor logits = model.forward(batches.next(1));
    return {logits.row(0), logits.row(0) + 5};
  }

  BertConfig config_;
  std::unique_ptr<Kernels> kernels_;
  std::unique_ptr<BertWeights> weights_;
  Dataset dataset_;
};

TEST_F(EvaluationTest, ScoresAndLossAreThoseOfTheRowsAlone) {
  Bert model = bert(Purpose::inference);
  const Evaluation evaluation = evaluate(model, *kernels_, config_, dataset_, 2048);
  ASSERT_EQ(evaluation.probabilities.size(), 41u * 5u);
  ASSERT_EQ(evaluation.targets.size(), 41u * 5u);
  double loss = 0;
  std::vector<double> expected;
  std::vector<float> targets(41 * 5, 0);
  for (std::int64_t row = 0; row < 41; ++row) {
    for (const std::int32_t label : dataset_.labels(row)) targets[static_cast<std::size_t>(row * 5 + label)] = 1;
    const std::vector<float> logits = logits_alone(model, row);
    for (std::size_t k = 0; k < 5; ++k) {
      const double x = logits[k], y = targets[static_cast<std::size_t>(row) * 5 + k];
      expected.push_back(1 / (1 + std::exp(-x)));
      loss += std::max(x, 0.0) - x * y + std::log1p(std::exp(-std::fabs(x)));
    }
  }
  EXPECT_EQ(evaluation.targets, targets);
  EXPECT_TRUE(
      testing::all_close(std::span<const float>(evaluation.probabilities), std::span<const double>(expected), 2e-6, 0));
  EXPECT_NEAR(evaluation.loss, loss / (41 * 5), 1e-6);
}

TEST_F(EvaluationTest, DoesNotDependOnTheSizeOfTheBatches) {
  Bert model = bert(Purpose::inference);
  const Evaluation whole = evaluate(model, *kernels_, config_, dataset_, 100000);
  for (const std::int64_t tokens : {1, 7, 31, 64, 65, 200}) {  // rows longer than the batch go alone
    const Evaluation parts = evaluate(model, *kernels_, config_, dataset_, tokens);
    EXPECT_TRUE(testing::all_close(std::span<const float>(parts.probabilities),
                                   std::span<const float>(whole.probabilities), 2e-6, 0))
        << tokens;
    EXPECT_EQ(parts.targets, whole.targets) << tokens;
    EXPECT_NEAR(parts.loss, whole.loss, 1e-6) << tokens;
  }
}

TEST_F(EvaluationTest, AModelInTrainingIsEvaluatedWithoutDropout) {
  Bert inference = bert(Purpose::inference), training = bert(Purpose::training);
  const Evaluation expected = evaluate(inference, *kernels_, config_, dataset_, 64);
  Batches batches(*kernels_, config_, dataset_);
  training.forward(batches.next(2), Randomness{9, 1});  // leaves masks behind that must not be used again
  const Evaluation actual = evaluate(training, *kernels_, config_, dataset_, 64);
  EXPECT_EQ(actual.probabilities, expected.probabilities);
  EXPECT_EQ(actual.loss, expected.loss);
}

TEST_F(EvaluationTest, LimitsAreThoseOfItsLargestBatches) {
  Dataset dataset;  // batches of one row, of four and of one
  for (const std::size_t length : {20, 3, 3, 3, 3, 5})
    dataset.append(std::vector<std::int32_t>(length, 1), std::vector<std::int32_t>{0});
  const BatchLimits limits = evaluation_limits(*kernels_, config_, dataset, 12);
  EXPECT_EQ(limits.tokens, 20);
  EXPECT_EQ(limits.sequences, 4);
}

TEST_F(EvaluationTest, RefusesAnEmptyDataSet) {
  Bert model = bert(Purpose::inference);
  EXPECT_THROW(evaluate(model, *kernels_, config_, Dataset(), 2048), Error);
}

}  // namespace
}  // namespace ember
