// The CUDA backend against Hugging Face's BertForSequenceClassification and PyTorch's AdamW, on the fixtures to which
// tests/golden/golden_test.cpp holds the CPU: what this computes in fp16 with a loss scale, those did in fp64.
//
// Nothing but rounding may differ, and every bound is so many times kRounding, the most by which f16 rounds a number;
// beside each is what was measured, of all fixtures under all schedules of the emulator, on 7.5 and on 9.0.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <vector>

#include "kernels/cuda/cuda_kernels.h"
#include "model/batches.h"
#include "model/bert.h"
#include "model/weights.h"
#include "tests/cuda/briefly.h"
#include "tests/golden/fixture.h"
#include "tests/support.h"
#include "train/optimizer.h"
#include "train/schedule.h"

namespace ember {
namespace {

using testing::kBriefly;

constexpr double kRounding = 0x1p-11;

double length_of(const std::vector<float>& values) {
  double squares = 0;
  for (const float value : values) squares += static_cast<double>(value) * static_cast<double>(value);
  return std::sqrt(squares);
}

class GoldenOnADevice : public ::testing::TestWithParam<const char*> {
 protected:
  GoldenOnADevice() {
    fixture.start(weights, kernels);
    options.weight_decay = settings[1];
    options.max_norm = settings[2];
  }

  template <typename T>
  std::vector<T> host(const void* from, std::int64_t count) {
    std::vector<T> values(static_cast<std::size_t>(count));
    kernels.download(values.data(), from, values.size() * sizeof(T));
    return values;
  }
  std::vector<float> host(const Tensor& tensor) {
    EXPECT_TRUE(tensor.contiguous());
    return host<float>(tensor.f32(), tensor.size());
  }

  Batch batch_of(std::size_t step) {
    batches.reorder(fixture.batches[step]);
    return batches.next(static_cast<std::int64_t>(fixture.batches[step].size()));
  }

  // Divided by the loss scale. Of the word embedding the device has room for more rows than there are tokens.
  std::vector<float> gradient(const Tensor& tensor, bool word, const Batch& batch, float loss_scale) {
    std::vector<float> values = host(tensor);
    for (float& value : values) value /= loss_scale;
    if (!word) return values;
    std::vector<std::int32_t> ids = host<std::int32_t>(batch.unique_ids, batch.unique);
    ids.erase(std::find(ids.begin(), ids.end(), -1), ids.end());
    values.resize(ids.size() * static_cast<std::size_t>(fixture.config.hidden));
    return fixture.expand(values, ids);
  }

  // Relative in L2. Each number of a gradient is rounded a few times on its way (1.1e-3); those of queries and keys
  // come of the softmax's gradient besides, a difference in which much cancels (2.1e-3).
  void expect_gradients(const Bert& model, const Batch& batch, float loss_scale) {
    const std::vector<Parameter> list = parameters(fixture.config, model.gradients());
    double query_bias = 0;
    for (std::size_t i = 0; i < list.size(); ++i) {
      const std::string& name = list[i].name;
      const std::vector<float> actual = gradient(list[i].value, i == 0, batch, loss_scale);
      const std::vector<float> expected = fixture.floats("gradients." + name);
      if (name.ends_with(".query.bias")) query_bias = length_of(expected);
      const bool scores = name.find(".query.") != name.npos || name.find(".key.") != name.npos;
      if (testing::is_key_bias(name))
        EXPECT_LE(length_of(actual), 2 * kRounding * query_bias) << name;  // 3.8e-4 of it
      else
        EXPECT_LE((testing::relative_l2<float, float>(actual, expected)), (scores ? 10 : 5) * kRounding) << name;
    }
  }

  // A first gradient that is next to nothing may round to the other side of zero, and Adam, for which size does not
  // count, then takes a whole step the other way. So a few numbers may end steps away (0.2% of a tensor, or 1 of 78; by
  // 5.6 steps); all others (but 0.4%) must end within a tenth of the first step of where they should, after ten such
  // steps on the way. A decay of a bias moves it by more than that in the fixture that has a decay of 0.1, one of
  // LayerNorm's weights in every fixture.
  void expect_trained() {
    for (const Parameter& parameter : weights.list) {
      const std::vector<float> actual = host(parameter.value);
      const bool noise = testing::is_key_bias(parameter.name);
      const std::vector<float> expected = fixture.floats((noise ? "weights." : "trained.") + parameter.name);
      ASSERT_EQ(actual.size(), expected.size()) << parameter.name;
      std::size_t astray = 0;
      double furthest = 0;
      for (std::size_t i = 0; i < actual.size(); ++i) {
        const double distance = std::fabs(double{actual[i]} - double{expected[i]}) / settings[0];
        ASSERT_TRUE(std::isfinite(distance)) << parameter.name;
        furthest = std::max(furthest, distance);
        if (distance > 0.1) ++astray;
      }
      // Of a key's bias noise decides where it goes, Adam how far: about one learning rate a step.
      EXPECT_LE(furthest, noise ? static_cast<double>(fixture.batches.size()) : 12) << parameter.name;
      if (!noise) {
        EXPECT_LE(astray, 2 + actual.size() / 100) << parameter.name << ", of " << actual.size();
      }
    }
  }

  testing::Fixture fixture{GetParam()};
  const std::vector<double> settings = fixture.doubles("optimizer");
  AdamWOptions options;
  CudaKernels kernels;
  BertWeights weights{fixture.config, kernels};
  Batches batches{kernels, fixture.config, fixture.dataset};
};
class GoldenStepsOnADevice : public GoldenOnADevice {};

TEST_P(GoldenOnADevice, ForwardLossAndGradients) {
  const Batch batch = batch_of(0);
  Bert model(fixture.config, weights, kernels, Purpose::training, {batch.tokens, batch.sequences});
  Optimizer optimizer(fixture.config, weights, kernels, options, Schedule(settings[0], 0, 1), 1);
  std::vector<float> logits = host(model.forward(batch));
  const std::vector<float> expected = fixture.floats("logits");
  ASSERT_GE(logits.size(), expected.size());
  logits.resize(expected.size());  // what follows is the filling's
  double largest = 0;
  for (const float value : expected) largest = std::max(largest, std::fabs(double{value}));
  // 1.7 roundings of the largest.
  EXPECT_TRUE((testing::all_close<float, float>(logits, expected, 4 * kRounding * largest, 0)));
  const std::vector<float> loss = host(model.loss(batch, optimizer.step_state()).loss);
  EXPECT_TRUE((testing::all_close<float, float>(loss, fixture.floats("loss"), kRounding, 0)));  // 1.7e-4
  model.backward(batch);
  const float loss_scale = optimizer.read_state().loss_scale;
  EXPECT_EQ(loss_scale, 65536);
  expect_gradients(model, batch, loss_scale);
}

// A step takes TSan a second.
TEST_P(GoldenStepsOnADevice, TwentyAdamWSteps) {
  const std::vector<float> losses = fixture.floats("losses"), norms = fixture.floats("norms");
  const std::size_t steps = fixture.batches.size();
  ASSERT_EQ(steps, 20u);
  const auto total = static_cast<std::int64_t>(steps);
  Bert model(fixture.config, weights, kernels, Purpose::training, {1, 1});
  Optimizer optimizer(fixture.config, weights, kernels, options, Schedule(settings[0], 0, total), total);
  for (std::size_t s = 0; s < (kBriefly ? 2 : steps); ++s) {
    const Batch batch = batch_of(s);
    optimizer.catch_up(batch);
    model.forward(batch);
    EXPECT_NEAR(host(model.loss(batch, optimizer.step_state()).loss)[0] / losses[s], 1, 10 * kRounding)  // 1.9e-3
        << "step " << s;
    model.backward(batch);
    optimizer.step(model, batch);
    const StepState state = optimizer.read_state();
    EXPECT_NEAR(state.gradient_norm / norms[s], 1, 20 * kRounding) << "step " << s;  // 3.4e-3
    EXPECT_EQ(state.skipped, 0) << "step " << s;
  }
  optimizer.catch_up();
  if (!kBriefly) expect_trained();
}

// What an order of threads can break, it breaks in these two as well, the one of three layers and the one of the
// largest decay: the emulator takes seconds for all four, and runs them in many orders.
std::vector<const char*> fixtures_of_steps() {
  const std::span<const char* const> all = testing::kFixtures;
  if (kBriefly || std::getenv("EMBER_SIMT_SCHEDULE") != nullptr) return {all.front(), all.back()};
  return {all.begin(), all.end()};
}

const auto kName = [](const auto& info) { return std::string(info.param); };
INSTANTIATE_TEST_SUITE_P(HuggingFace, GoldenOnADevice, ::testing::ValuesIn(testing::kFixtures), kName);
INSTANTIATE_TEST_SUITE_P(HuggingFace, GoldenStepsOnADevice, ::testing::ValuesIn(fixtures_of_steps()), kName);

}  // namespace
}  // namespace ember
