#include "train/optimizer.h"

#include <cstring>
#include <limits>
#include <memory>

#include "data/dataset.h"
#include "kernels/cpu/cpu_kernels.h"
#include "model/batches.h"
#include "tests/support.h"
#include "tests/train/tiny_run.h"
#include "train/schedule.h"

namespace ember {
namespace {

// The reference run's own log: at step 500 of 10,856 it had used 1.9080692704495212e-05.
TEST(Schedule, IsTheReferenceRuns) {
  const Schedule schedule(2e-5, 0, 10856);
  EXPECT_DOUBLE_EQ(schedule.at(0), 2e-5);
  EXPECT_DOUBLE_EQ(schedule.at(499), 1.9080692704495212e-05);
  EXPECT_DOUBLE_EQ(schedule.at(999), 1.8159543109801032e-05);
  EXPECT_DOUBLE_EQ(schedule.at(5499), 9.869196757553428e-06);
  EXPECT_DOUBLE_EQ(schedule.at(10856), 0);
  EXPECT_DOUBLE_EQ(schedule.at(20000), 0);
}

// Values of transformers' get_linear_schedule_with_warmup(num_warmup_steps=3, num_training_steps=10).
TEST(Schedule, WarmsUp) {
  const Schedule schedule(1, 0.21, 10);
  EXPECT_EQ(schedule.warmup_steps(), 3);  // rounded up
  const double expected[] = {0, 1.0 / 3, 2.0 / 3, 1, 6.0 / 7, 5.0 / 7, 4.0 / 7, 3.0 / 7, 2.0 / 7, 1.0 / 7, 0};
  for (int s = 0; s <= 10; ++s) EXPECT_DOUBLE_EQ(schedule.at(s), expected[s]) << s;
}

TEST(Schedule, OfWarmupAlone) {
  const Schedule schedule(1, 1, 4);
  EXPECT_DOUBLE_EQ(schedule.at(3), 0.75);
  EXPECT_DOUBLE_EQ(schedule.at(4), 0);
}

TEST(AdamWUpdate, CorrectsTheBias) {
  const AdamWUpdate first = adamw_update({}, 0.1, 1);
  // Of the betas as floats: 0.1 / (1 - 0.89999997615814209) and 1 / sqrt(1 - 0.99900001287460327).
  EXPECT_FLOAT_EQ(first.step_size, 0.99999976158f);
  EXPECT_FLOAT_EQ(first.inverse_correction, 31.622980128f);
  EXPECT_FLOAT_EQ(first.decay, 0.999f);
  const AdamWUpdate late = adamw_update({}, 0.1, 100000);
  EXPECT_FLOAT_EQ(late.step_size, 0.1f);
  EXPECT_FLOAT_EQ(late.inverse_correction, 1.0f);
}

// The coefficients of all updates of a run, as the kernels read them.
struct ScheduleReader final : CpuKernels {
  ScheduleReader() : CpuKernels(Precision::fp32, 1) {}
  void adamw_replay(const AdamWParameter&, const std::int32_t*, std::int64_t, std::int32_t*, const AdamWUpdate* all,
                    const StepState*) override {
    schedule = all;
  }
  const AdamWUpdate* schedule = nullptr;
};

TEST(Optimizer, AsksForTheCoefficientsOfEveryUpdateOfALongRun) {
  constexpr std::int64_t kSteps = 3 * 65536 + 7, kWarmup = kSteps / 2 + 1;
  const BertConfig config = testing::tiny_config();
  ScheduleReader kernels;
  BertWeights weights(config, kernels);
  AdamWOptions options;
  options.weight_decay = 0.5, options.epsilon = 1e-6f;
  Optimizer optimizer(config, weights, kernels, options, Schedule(0.25, 0.5, kSteps), kSteps);
  optimizer.catch_up();
  ASSERT_NE(kernels.schedule, nullptr);
  // Of the betas as floats: log1p and expm1 keep what is lost where a power is near 1.
  const double log1 = std::log1p(static_cast<double>(options.beta1) - 1),
               log2 = std::log1p(static_cast<double>(options.beta2) - 1);
  const auto near = [](float actual, double expected) { return std::fabs(actual / expected - 1) < 1e-7; };
  for (std::int64_t s = 0; s < kSteps; ++s) {
    const auto step = static_cast<double>(s);
    const double rate = s < kWarmup ? 0.25 * step / kWarmup : 0.25 * (kSteps - step) / (kSteps - kWarmup);
    const AdamWUpdate& update = kernels.schedule[s];
    ASSERT_EQ(update.beta1, options.beta1) << s;
    ASSERT_EQ(update.beta2, options.beta2) << s;
    ASSERT_EQ(update.epsilon, options.epsilon) << s;
    ASSERT_TRUE(near(update.decay, 1 - 0.5 * rate)) << s << ": " << update.decay;
    ASSERT_TRUE(s == 0 ? update.step_size == 0 : near(update.step_size, rate / -std::expm1((step + 1) * log1)))
        << s << ": " << update.step_size;
    ASSERT_TRUE(near(update.inverse_correction, 1 / std::sqrt(-std::expm1((step + 1) * log2))))
        << s << ": " << update.inverse_correction;
  }
}

// A model with weights drawn from one seed, and batches that leave most words out for long.
struct Rig {
  Rig() : config(testing::tiny_config()), kernels(make_cpu_kernels(Precision::fp32, 1)), weights(config, *kernels) {
    config.pad_token_id = 4;
    draw_all(weights, 0.1f, 7, *kernels);
    model = std::make_unique<Bert>(config, weights, *kernels, Purpose::training, BatchLimits{64, 4});
  }

  // Texts of step `s`: four, of words from a window that wanders; some spell [PAD] out.
  const Batch& batch(int s) {
    testing::TinyRandom random{static_cast<std::uint64_t>(s)};
    dataset = {};
    for (int i = 0; i < 4; ++i) {
      std::vector<std::int32_t> tokens{2};
      for (int n = 1 + random.below(9); n > 0; --n) tokens.push_back(5 + (s / 10 * 7 + random.below(12)) % 95);
      if (random.below(5) == 0) tokens.push_back(config.pad_token_id);
      tokens.push_back(3);
      dataset.append(tokens, std::vector<std::int32_t>{random.below(testing::kTinyLabels)});
    }
    batches.take(dataset);
    batch_ = batches.next(4);
    return batch_;
  }

  void gradients(const Batch& batch, int s) {
    model->forward(batch, Randomness{3, static_cast<std::uint32_t>(s)});
    model->loss(batch);
    model->backward(batch);
  }

  BertConfig config;
  std::unique_ptr<Kernels> kernels;
  BertWeights weights;
  std::unique_ptr<Bert> model;
  Dataset dataset;
  Batches batches{*kernels, config};
  Batch batch_;
};

// Dense AdamW as the textbook has it: every row of the word embedding gets a gradient, mostly zero, at every step.
struct Dense {
  Dense(Rig& r, const Schedule& schedule, std::int64_t total)
      : rig(r), first(r.config, *r.kernels), second(r.config, *r.kernels) {
    for (std::int64_t t = 0; t < total; ++t) updates.push_back(adamw_update({}, schedule.at(t), t + 1));
  }

  void step(const Batch& batch) {
    const std::vector<Parameter> gradients = parameters(rig.config, rig.model->gradients());
    std::vector<Tensor> values;
    for (const Parameter& gradient : gradients) values.push_back(gradient.value);
    rig.kernels->gradient_norm(&state, values);
    std::vector<float> word(static_cast<std::size_t>(rig.config.vocabulary * rig.config.hidden));
    for (std::int64_t u = 0; u < batch.unique; ++u)
      std::copy_n(values[0].row(u), rig.config.hidden, word.data() + batch.unique_ids[u] * rig.config.hidden);
    values[0] = matrix(word.data(), rig.config.vocabulary, rig.config.hidden);
    std::vector<AdamWParameter> all;
    for (std::size_t i = 0; i < values.size(); ++i) {
      const Parameter& weight = rig.weights.list[i];
      all.push_back({weight.value, first.list[i].value, second.list[i].value, {}, values[i], weight.decayed});
    }
    rig.kernels->adamw(all, updates.data(), &state, 1);
    rig.kernels->finish_step(&state, {}, {});
  }

  Rig& rig;
  BertWeights first, second;
  std::vector<AdamWUpdate> updates;
  StepState state;
};

void expect_same_bits(const BertWeights& a, const BertWeights& b, const std::string& what) {
  for (std::size_t i = 0; i < a.list.size(); ++i) {
    const auto bytes = static_cast<std::size_t>(a.list[i].value.size()) * sizeof(float);
    ASSERT_EQ(std::memcmp(a.list[i].value.data, b.list[i].value.data, bytes), 0) << what << ", " << a.list[i].name;
  }
}

TEST(Optimizer, LazyIsDenseBitForBit) {
  constexpr int kSteps = 300;
  const Schedule schedule(1e-3, 0.1, kSteps);
  Rig lazy, plain;
  Optimizer optimizer(lazy.config, lazy.weights, *lazy.kernels, {}, schedule, kSteps);
  Dense dense(plain, schedule, kSteps);
  for (int s = 0; s < kSteps; ++s) {
    const Batch& ours = lazy.batch(s);
    optimizer.catch_up(ours);
    lazy.gradients(ours, s);
    optimizer.step(*lazy.model, ours);
    ASSERT_EQ(optimizer.read_state().updates, s + 1);
    const Batch& theirs = plain.batch(s);
    plain.gradients(theirs, s);
    dense.step(theirs);
    if (s % 100 == 57) optimizer.catch_up();  // as an evaluation does: it must change nothing
  }
  optimizer.catch_up();
  expect_same_bits(lazy.weights, plain.weights, "weights");
  expect_same_bits(optimizer.first_moments(), dense.first, "first moments");
  expect_same_bits(optimizer.second_moments(), dense.second, "second moments");
}

TEST(Optimizer, LeavesEverythingAloneWhenAGradientIsNotFinite) {
  Rig rig, untouched;
  Optimizer optimizer(rig.config, rig.weights, *rig.kernels, {}, Schedule(1e-3, 0, 1), 1);
  const Batch& batch = rig.batch(0);
  rig.gradients(batch, 0);
  rig.model->gradients().pooler_bias.f32()[3] = std::numeric_limits<float>::quiet_NaN();
  optimizer.step(*rig.model, batch);
  const StepState state = optimizer.read_state();
  EXPECT_FALSE(std::isfinite(state.gradient_norm));
  EXPECT_EQ(state.finite, 0);
  EXPECT_EQ(state.updates, 0);
  EXPECT_EQ(state.skipped, 1);
  EXPECT_FALSE(optimizer.can_lower_scale(state));
  expect_same_bits(rig.weights, untouched.weights, "weights");
}

TEST(Optimizer, FollowsAModelThatGrows) {
  Rig small, large;
  large.model =
      std::make_unique<Bert>(large.config, large.weights, *large.kernels, Purpose::training, BatchLimits{512, 64});
  for (Rig* rig : {&small, &large}) {
    rig->model = rig == &small ? std::make_unique<Bert>(rig->config, rig->weights, *rig->kernels, Purpose::training,
                                                        BatchLimits{4, 1})
                               : std::move(rig->model);
    Optimizer optimizer(rig->config, rig->weights, *rig->kernels, {}, Schedule(1e-3, 0, 40), 40);
    for (int s = 0; s < 40; ++s) {
      const Batch& batch = rig->batch(s);
      optimizer.catch_up(batch);
      rig->gradients(batch, s);
      optimizer.step(*rig->model, batch);
      ASSERT_EQ(optimizer.read_state().finite, 1);
    }
    optimizer.catch_up();
  }
  expect_same_bits(small.weights, large.weights, "weights");
}

}  // namespace
}  // namespace ember
