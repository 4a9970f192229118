// Forward in two parts: the [CLS] rows of several batches through the model's end together.
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <vector>

#include "model/bert.h"
#include "tests/support.h"

namespace ember {
namespace {

class BertRowsTest : public ::testing::Test {
 protected:
  BertRowsTest() {
    config_.vocabulary = 20, config_.hidden = 12, config_.layers = 2, config_.heads = 3, config_.ffn = 16;
    config_.positions = 8, config_.labels = {"a", "b", "c"};
    weights_ = std::make_unique<BertWeights>(config_, *kernels_);
    draw_all(*weights_, 0.3f, 3, *kernels_);
    for (std::int32_t i = 0; i < 6; ++i) {
      std::vector<std::int32_t> ids{2, 5 + i};
      ids.resize(static_cast<std::size_t>(2 + i), 7 + i);
      dataset_.append(ids, {});
    }
  }

  BertConfig config_;
  std::unique_ptr<Kernels> kernels_ = make_cpu_kernels();
  std::unique_ptr<BertWeights> weights_;
  Dataset dataset_;
};

TEST_F(BertRowsTest, OfSeveralBatchesAreThoseOfEach) {
  Bert bert(config_, *weights_, *kernels_, Purpose::inference, {20, 6});
  const std::vector<std::int64_t> counts{1, 3, 2};
  std::vector<float> alone;
  Batches batches(*kernels_, config_, dataset_, Batches::Targets::none);
  for (const std::int64_t count : counts) {
    const Tensor logits = bert.forward(batches.next(count));
    alone.insert(alone.end(), logits.f32(), logits.f32() + logits.size());
  }
  batches.rewind();
  std::int64_t rows = 0;
  Batch batch;
  for (const std::int64_t count : counts) {
    batch = batches.next(count);
    bert.encode(batch, rows);
    rows += count;
  }
  const Tensor together = bert.classify(rows);
  ASSERT_EQ(together.rows, 6);
  EXPECT_TRUE(testing::all_close(std::span<const float>(together.f32(), alone.size()), std::span<const float>(alone),
                                 1e-6, 1e-6));
  EXPECT_EQ(bert.loss(batch).probabilities.rows, 6);
  EXPECT_EQ(bert.reservations(), 1);
}

// Nor do they have the dropout of a batch before them.
TEST_F(BertRowsTest, HaveNoDropout) {
  config_.hidden_dropout = config_.attention_dropout = config_.classifier_dropout = 0.5f;
  Bert bert(config_, *weights_, *kernels_, Purpose::inference, {20, 3});
  Batches batches(*kernels_, config_, dataset_, Batches::Targets::none);
  const Batch batch = batches.next(2);
  const Tensor logits = bert.forward(batch);
  const std::vector<float> expected(logits.f32(), logits.f32() + logits.size());
  bert.forward(batch, Randomness{.seed = 1});
  bert.encode(batch);
  const Tensor again = bert.classify(2);
  EXPECT_EQ(std::vector<float>(again.f32(), again.f32() + again.size()), expected);
}

// To make room would lose the rows that are there.
TEST_F(BertRowsTest, AreNotLostForALargerBatch) {
  Bert bert(config_, *weights_, *kernels_, Purpose::inference, {20, 3});
  Batches batches(*kernels_, config_, dataset_, Batches::Targets::none);
  bert.encode(batches.next(2));
  EXPECT_THROW(bert.encode(batches.next(2), 2), std::logic_error);
  bert.encode(batches.next(1), 2);
  EXPECT_EQ(bert.classify(3).rows, 3);
}

}  // namespace
}  // namespace ember
