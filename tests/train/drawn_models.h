// Whole models of shapes and texts drawn at random, one backend or precision beside the CPU's fp32: widths, lengths and
// counts meet that no test of one operation puts together.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <utility>
#include <vector>

#include "tests/support.h"
#include "tests/train/tiny_run.h"
#include "tests/train/training_rig.h"
#include "train/evaluation.h"

namespace ember::testing {

// How far from fp32, relative: scores and each parameter's gradient in L2, the loss, the gradient's norm.
struct DrawnBounds {
  double scores, loss, norm, gradients;
};

// The parameter is the seed of the draw.
class DrawnModels : public ::testing::TestWithParam<int> {
  TinyRandom random_{static_cast<std::uint64_t>(GetParam()) * 7919 + 1};  // first, since the others are drawn from it

 protected:
  DrawnModels() : config(draw_config()), texts(draw_texts()) {
    options.limits = {static_cast<std::int64_t>(texts.token_ids.size()), texts.size()};
    // Of wider models smaller, so that no softmax magnifies a rounding.
    options.deviation = std::min(0.2f, 0.8f / std::sqrt(static_cast<float>(config.hidden)));
  }

  Rig rig_on(std::unique_ptr<Kernels> kernels) const { return Rig(config, std::move(kernels), options); }
  // One thread, since TSan does not know what libgomp's wait for.
  Rig rig_of(Precision precision, int threads = 1) const { return rig_on(make_cpu_kernels(precision, threads)); }

  double difference_of_scores(Rig& a, Rig& b) const { return relative_l2<float, float>(scores_of(a), scores_of(b)); }

  // Two steps of both, which begin with the same weights.
  void expect_follows(Rig& rig, float loss_scale, const DrawnBounds& bounds) const {
    Rig fp32 = rig_of(Precision::fp32);
    StepState state = rig.optimizer->read_state();
    state.loss_scale = loss_scale;
    rig.set_state(state);
    EXPECT_LE(difference_of_scores(rig, fp32), bounds.scores);
    for (int s = 0; s < 2; ++s) {
      const float loss = fp32.step(texts, s), norm = fp32.optimizer->read_state().gradient_norm;
      EXPECT_NEAR(rig.step(texts, s), loss, bounds.loss * loss) << "step " << s;
      EXPECT_NEAR(rig.optimizer->read_state().gradient_norm, norm, bounds.norm * norm) << "step " << s;
      expect_same_gradients(rig, loss_scale, fp32, norm, bounds.gradients);
    }
    EXPECT_LE(difference_of_scores(rig, fp32), bounds.scores);
  }

  BertConfig config;
  Dataset texts;
  RigOptions options;

 private:
  int below(int limit) { return random_.below(limit); }
  int between(int least, int most) { return least + below(most - least + 1); }
  template <typename T>
  T one_of(std::initializer_list<T> values) {
    return values.begin()[below(static_cast<int>(values.size()))];
  }

  BertConfig draw_config() {
    BertConfig c;
    c.heads = between(1, 5);
    c.hidden = c.heads * one_of({1, 2, 3, 5, 8, 13, 16, 24, 26, 31, 32, 33, 40, 48, 63, 64});
    c.layers = between(1, 3), c.ffn = between(1, 200), c.vocabulary = between(9, 300), c.types = between(1, 3);
    c.positions = below(4) == 0 ? between(65, 140) : between(2, 64);
    c.hidden_dropout = one_of({0.0f, 0.1f, 0.5f}), c.attention_dropout = one_of({0.0f, 0.1f, 0.5f});
    c.classifier_dropout = one_of({0.0f, 0.1f, 0.5f});
    c.layer_norm_eps = one_of({1e-12f, 1e-5f});
    c.labels = anonymous_labels(below(4) == 0 ? between(41, 300) : between(1, 40));
    return c;
  }

  // Padding tokens among the others, and texts without a label.
  Dataset draw_texts() {
    constexpr int kMostTokens = 160;
    const int positions = static_cast<int>(config.positions);
    Dataset drawn;
    for (int left = between(1, 20); left > 0; --left) {
      const int length = below(5) == 0 ? positions : between(1, std::min(positions, 30));
      if (drawn.size() > 0 && drawn.offsets.back() + length > kMostTokens) break;
      std::vector<std::int32_t> tokens, labels;
      for (int i = 0; i < length; ++i)
        tokens.push_back(below(6) == 0 ? below(3) : below(static_cast<int>(config.vocabulary)));
      for (int k = 0; k < config.label_count(); ++k)
        if (below(6) == 0) labels.push_back(k);
      drawn.append(tokens, labels);
    }
    return drawn;
  }

  std::vector<float> scores_of(Rig& rig) const {
    constexpr std::int64_t kTokens = 70;
    rig.optimizer->catch_up();
    Bert model(config, rig.weights, *rig.kernels, Purpose::inference, {kTokens, texts.size()});
    return evaluate(model, *rig.kernels, config, texts, kTokens).probabilities;
  }

  // The first rows of a matrix of floats.
  static std::vector<float> read_rows(Kernels& kernels, Tensor matrix, std::int64_t rows) {
    std::vector<float> values(static_cast<std::size_t>(rows * matrix.cols));
    for (std::int64_t r = 0; r < rows; ++r)
      kernels.download(values.data() + r * matrix.cols, matrix.row(r),
                       static_cast<std::size_t>(matrix.cols) * sizeof(float));
    return values;
  }

  // Of gradients that are nearly zero, as those of keys' biases are by definition, what counts is how small the
  // difference is beside all gradients'.
  static void expect_same_gradients(Rig& rig, float loss_scale, Rig& fp32, double norm, double bound) {
    const std::vector<Parameter> actual = parameters(rig.config, rig.model->gradients()),
                                 expected = parameters(fp32.config, fp32.model->gradients());
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const std::int64_t rows = expected[i].value.rows;  // of the word embedding a device has room for more
      const std::vector<float> a = read_rows(*rig.kernels, actual[i].value, rows),
                               e = read_rows(*fp32.kernels, expected[i].value, rows);
      double difference = 0, squares = 0;
      for (std::size_t k = 0; k < e.size(); ++k) {
        difference += std::pow(double{a[k]} / loss_scale - e[k], 2);
        squares += std::pow(double{e[k]}, 2);
      }
      EXPECT_LE(std::sqrt(difference), bound * std::max(std::sqrt(squares), 1e-3 * norm)) << expected[i].name;
    }
  }
};

}  // namespace ember::testing
