// Dropout in the model: its masks are where the configuration says, each with a stream of its own, and backward has
// those of forward, since its gradients are those of the loss with dropout.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <compare>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "kernels/cpu/cpu_kernels.h"
#include "model/bert.h"

namespace ember {
namespace {

struct Call {
  float probability;
  std::uint32_t site;
  auto operator<=>(const Call&) const = default;
};

// CPU kernels that keep what dropout forward is told.
class ListeningKernels final : public CpuKernels {
 public:
  ListeningKernels() : CpuKernels(Precision::fp32, 1) {}
  std::vector<Call> calls;

  void embeddings_forward(Tensor out, Tensor sum, Moments moments, const Batch& batch, const EmbeddingTensors& tables,
                          const LayerNormTensors& norm, float epsilon, const Dropout& dropout) override {
    keep(dropout);
    CpuKernels::embeddings_forward(out, sum, moments, batch, tables, norm, epsilon, dropout);
  }
  void attention_forward(Tensor out, Tensor query, Tensor key, Tensor value, const Batch& batch, std::int64_t heads,
                         std::int64_t positions, Queries queries, const Dropout& dropout) override {
    keep(dropout);
    CpuKernels::attention_forward(out, query, key, value, batch, heads, positions, queries, dropout);
  }
  void cls_attention_forward(Tensor out, Tensor first, Tensor kept, Tensor in, Tensor weight, Tensor bias,
                             const Batch& batch, std::int64_t heads, std::int64_t positions,
                             const Dropout& dropout) override {
    const std::size_t before = calls.size();
    CpuKernels::cls_attention_forward(out, first, kept, in, weight, bias, batch, heads, positions, dropout);
    calls.resize(before);  // without those of its parts
    keep(dropout);
  }
  void residual_layernorm_forward(Tensor out, Tensor sum, Moments moments, Tensor in, Tensor bias, Tensor residual,
                                  const LayerNormTensors& norm, float epsilon, const Dropout& dropout) override {
    keep(dropout);
    CpuKernels::residual_layernorm_forward(out, sum, moments, in, bias, residual, norm, epsilon, dropout);
  }
  void head_forward(Tensor logits, Tensor pooled, Tensor activated, Tensor in, Tensor bias, Tensor weight,
                    Tensor weight_bias, const Dropout& dropout) override {
    keep(dropout);
    CpuKernels::head_forward(logits, pooled, activated, in, bias, weight, weight_bias, dropout);
  }

 private:
  void keep(const Dropout& dropout) {
    if (!dropout.active()) return;
    EXPECT_EQ(dropout.seed, 9u);
    EXPECT_EQ(dropout.step, 4u);
    calls.push_back({dropout.probability, dropout.site});
  }
};

class BertDropoutTest : public ::testing::Test {
 protected:
  static constexpr Randomness kRandomness{9, 4};

  BertDropoutTest() {
    config_.vocabulary = 20, config_.hidden = 12, config_.layers = 2, config_.heads = 3, config_.ffn = 16;
    config_.positions = 8, config_.labels = {"a", "b", "c"};
    config_.hidden_dropout = 0.25f, config_.attention_dropout = 0.125f, config_.classifier_dropout = 0.5f;
    weights_ = std::make_unique<BertWeights>(config_, kernels_);
    draw_all(*weights_, 0.3f, 3, kernels_);
    using Ids = std::vector<std::int32_t>;
    dataset_.append(Ids{2, 7, 9, 7, 3}, Ids{0, 2});
    dataset_.append(Ids{2, 5, 3}, Ids{1});
    dataset_.append(Ids{2, 11, 12, 13, 9, 3}, Ids{});
    bert_ = std::make_unique<Bert>(config_, *weights_, kernels_, Purpose::training, BatchLimits{32, 4});
    batches_ = std::make_unique<Batches>(kernels_, config_, dataset_);
    batch_ = batches_->next(3);
  }

  double loss(const std::optional<Randomness>& randomness) {
    bert_->weights_changed();
    bert_->forward(batch_, randomness);
    return static_cast<double>(*bert_->loss(batch_).loss.f32());
  }

  BertConfig config_;
  ListeningKernels kernels_;
  std::unique_ptr<BertWeights> weights_;
  Dataset dataset_;
  std::unique_ptr<Bert> bert_;
  std::unique_ptr<Batches> batches_;
  Batch batch_;
};

TEST_F(BertDropoutTest, IsWhereTheConfigurationSays) {
  loss(std::nullopt);
  EXPECT_TRUE(kernels_.calls.empty());
  loss(kRandomness);
  const std::vector<Call> expected = {{0.25f, 0x100},  {0.125f, 0x200}, {0.25f, 0x300}, {0.25f, 0x400},
                                      {0.125f, 0x201}, {0.25f, 0x301},  {0.25f, 0x401}, {0.5f, 0x500}};
  EXPECT_EQ(kernels_.calls, expected);
}

TEST_F(BertDropoutTest, IsAFunctionOfSeedAndStep) {
  const double without = loss(std::nullopt), with = loss(kRandomness);
  EXPECT_NE(with, without);
  EXPECT_EQ(loss(kRandomness), with);
  EXPECT_EQ(loss(std::nullopt), without);
}

// Along a random direction of each parameter, by central differences. A mask of backward's that is not forward's is off
// by tens of percents.
TEST_F(BertDropoutTest, GradientsAreThoseOfTheLossWithDropout) {
  loss(kRandomness);
  bert_->backward(batch_);
  const std::vector<Parameter> gradients = parameters(config_, bert_->gradients());
  std::mt19937 generator(5);
  std::vector<std::vector<float>> directions;
  std::vector<double> slopes;
  for (std::size_t p = 0; p < gradients.size(); ++p) {
    const Tensor& of = weights_->list[p].value;
    std::vector<float> direction(static_cast<std::size_t>(of.size()));
    for (float& value : direction) value = generator() % 2 == 0 ? 1.0f : -1.0f;
    double slope = 0;
    const bool word = p == 0;  // its gradient has the rows of the batch's words
    for (std::int64_t r = 0; r < (word ? batch_.unique : of.rows); ++r)
      for (std::int64_t c = 0; c < of.cols; ++c) {
        const std::int64_t row = word ? batch_.unique_ids[r] : r;
        slope += static_cast<double>(gradients[p].value.row(r)[c]) *
                 static_cast<double>(direction[static_cast<std::size_t>(row * of.cols + c)]);
      }
    directions.push_back(std::move(direction));
    slopes.push_back(slope);
  }
  constexpr float kStep = 1e-3f;
  for (std::size_t p = 0; p < slopes.size(); ++p) {
    const Tensor& of = weights_->list[p].value;
    const std::vector<float> before(of.f32(), of.f32() + of.size());
    const auto moved = [&](float by) {
      for (std::size_t i = 0; i < before.size(); ++i) of.f32()[i] = before[i] + by * directions[p][i];
      return loss(kRandomness);
    };
    const double slope = (moved(kStep) - moved(-kStep)) / (2 * static_cast<double>(kStep));
    std::copy(before.begin(), before.end(), of.f32());
    EXPECT_NEAR(slopes[p], slope, 5e-4 + 0.02 * std::abs(slope)) << weights_->list[p].name;
  }
}

}  // namespace
}  // namespace ember
