// The model and its optimizer against Hugging Face's BertForSequenceClassification and PyTorch's AdamW: logits, loss,
// every gradient and the weights after 20 steps, on the fixtures that generate.py wrote (it says what they hold).
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "model/batches.h"
#include "model/bert.h"
#include "model/weights.h"
#include "tests/golden/fixture.h"
#include "tests/support.h"
#include "train/optimizer.h"
#include "train/schedule.h"

namespace ember {
namespace {

using testing::all_close;
using testing::Fixture;
using testing::is_key_bias;
using testing::relative_l2;

template <typename T>
std::span<const T> view_of(const std::vector<T>& values) {
  return values;
}

class Golden : public ::testing::TestWithParam<const char*> {
 protected:
  Golden() : fixture(GetParam()), kernels(make_cpu_kernels(Precision::fp32, 1)), weights(fixture.config, *kernels) {
    fixture.start(weights, *kernels);
  }

  std::vector<float> host(const Tensor& tensor) {
    EXPECT_TRUE(tensor.contiguous());
    std::vector<float> values(static_cast<std::size_t>(tensor.size()));
    kernels->download(values.data(), tensor.f32(), values.size() * sizeof(float));
    return values;
  }

  void expect_gradients(const Bert& model, const Batch& batch) {
    const std::vector<Parameter> list = parameters(fixture.config, model.gradients());
    std::vector<float> query_bias;
    for (std::size_t i = 0; i < list.size(); ++i) {
      const std::string& name = list[i].name;
      std::vector<float> actual = host(list[i].value);
      if (i == 0) actual = fixture.expand(actual, {batch.unique_ids, static_cast<std::size_t>(batch.unique)});
      if (name.ends_with(".query.bias")) query_bias = actual;
      if (is_key_bias(name))
        expect_negligible(name, actual, query_bias);
      else
        EXPECT_LE(relative_l2(view_of(actual), view_of(fixture.floats("gradients." + name))), 1e-5) << name;
    }
  }

  void expect_negligible(const std::string& name, const std::vector<float>& values, const std::vector<float>& scale) {
    ASSERT_EQ(values.size(), scale.size()) << name;
    const std::vector<float> zeros(values.size());
    double norm = 0;
    for (const float value : scale) norm += static_cast<double>(value) * static_cast<double>(value);
    EXPECT_GT(norm, 0) << name;
    EXPECT_TRUE(all_close(view_of(values), view_of(zeros), 1e-5 * std::sqrt(norm), 0)) << name;
  }

  void expect_trained(double learning_rate) {
    for (const Parameter& parameter : weights.list) {
      const std::vector<float> actual = host(parameter.value);
      if (is_key_bias(parameter.name)) {
        // Noise decides where it goes, Adam how far: about one learning rate a step.
        const std::vector<float> start = fixture.floats("weights." + parameter.name);
        const double reach = learning_rate * static_cast<double>(fixture.batches.size());
        EXPECT_TRUE(all_close(view_of(actual), view_of(start), reach, 0)) << parameter.name;
      } else {
        const std::vector<float> expected = fixture.floats("trained." + parameter.name);
        EXPECT_LE(relative_l2(view_of(actual), view_of(expected)), 1e-5) << parameter.name;
      }
    }
  }

  Batch batch_of(std::span<const std::int64_t> rows) {
    batches.reorder(rows);
    return batches.next(static_cast<std::int64_t>(rows.size()));
  }

  Fixture fixture;
  std::unique_ptr<Kernels> kernels;
  BertWeights weights;
  Batches batches{*kernels, fixture.config, fixture.dataset};
};

TEST_P(Golden, ForwardLossAndGradients) {
  const Batch batch = batch_of(fixture.batches[0]);
  ASSERT_EQ(batch.max_length, fixture.config.positions);
  for (const int threads : {1, 3}) {
    SCOPED_TRACE(threads);
    const std::unique_ptr<Kernels> own = make_cpu_kernels(Precision::fp32, threads);
    Bert model(fixture.config, weights, *own, Purpose::training, {batch.tokens, batch.sequences});
    const std::vector<float> logits = host(model.forward(batch));
    EXPECT_TRUE(all_close(view_of(logits), view_of(fixture.floats("logits")), 1e-5, 0));
    const std::vector<float> loss = host(model.loss(batch).loss);
    EXPECT_TRUE(all_close(view_of(loss), view_of(fixture.floats("loss")), 1e-6, 0));
    model.backward(batch);
    expect_gradients(model, batch);
  }
}

// Inference shares memory between layers, grows it for a larger batch, and needs no company in the batch.
TEST_P(Golden, InferenceAloneAndTogether) {
  const std::vector<float> expected = fixture.floats("logits");
  Bert model(fixture.config, weights, *kernels, Purpose::inference, {1, 1});
  const auto width = static_cast<std::size_t>(fixture.config.label_count());
  for (std::size_t i = 0; i < fixture.batches[0].size(); ++i) {
    const std::vector<float> logits = host(model.forward(batch_of(std::span(fixture.batches[0]).subspan(i, 1))));
    EXPECT_TRUE(all_close(view_of(logits), std::span(expected).subspan(i * width, width), 1e-5, 0)) << "sequence " << i;
  }
  EXPECT_TRUE(all_close(view_of(host(model.forward(batch_of(fixture.batches[0])))), view_of(expected), 1e-5, 0));
}

TEST_P(Golden, TwentyAdamWSteps) {
  const std::vector<double> settings = fixture.doubles("optimizer");
  const std::vector<float> losses = fixture.floats("losses"), norms = fixture.floats("norms");
  const auto steps = static_cast<std::int64_t>(fixture.batches.size());
  ASSERT_EQ(steps, 20);
  AdamWOptions options;
  options.weight_decay = settings[1];
  options.max_norm = settings[2];
  const Schedule schedule(settings[0], 0, steps);
  Bert model(fixture.config, weights, *kernels, Purpose::training, {1, 1});
  Optimizer optimizer(fixture.config, weights, *kernels, options, schedule, steps);
  for (std::int64_t step = 0; step < steps; ++step) {
    const auto i = static_cast<std::size_t>(step);
    const Batch batch = batch_of(fixture.batches[i]);
    optimizer.catch_up(batch);
    model.forward(batch);
    EXPECT_NEAR(host(model.loss(batch).loss)[0], losses[i], 1e-5) << "step " << step;
    model.backward(batch);
    optimizer.step(model, batch);
    EXPECT_NEAR(optimizer.read_state().gradient_norm / norms[i], 1, 1e-5) << "step " << step;
  }
  optimizer.catch_up();
  expect_trained(settings[0]);
}

INSTANTIATE_TEST_SUITE_P(HuggingFace, Golden, ::testing::ValuesIn(testing::kFixtures),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace ember
