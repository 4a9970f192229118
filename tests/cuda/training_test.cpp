// Training in fp16 with a loss scale, beside the CPU's in fp32 from the same weights with the same dropout; and a whole
// run of `train` on the device.
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <numeric>

#include "kernels/cuda/cuda_kernels.h"
#include "model/device_batch.h"
#include "runtime/file.h"
#include "tests/support.h"
#include "tests/train/tiny_run.h"
#include "train/optimizer.h"
#include "train/schedule.h"
#include "train/trainer.h"

namespace ember {
namespace {

constexpr int kSteps = 50, kBatch = 4;
constexpr std::uint64_t kSeed = 5;

BertConfig config_of_head_dim_26() {
  BertConfig config = testing::tiny_config();
  config.hidden = 52, config.heads = 2, config.ffn = 100;
  return config;
}

// A model with its optimizer on one backend.
struct Rig {
  Rig(BertConfig of, std::unique_ptr<Kernels> on)
      : config(std::move(of)), kernels(std::move(on)), weights(config, *kernels), device_batch(*kernels) {
    std::vector<float> values;
    for (std::size_t i = 0; i < weights.list.size(); ++i) {
      values.resize(static_cast<std::size_t>(weights.list[i].value.size()));
      draw(weights.list[i], 0.2f, 7, static_cast<std::uint32_t>(i), values.data());
      kernels->upload(weights.list[i].value.data, values.data(), values.size() * sizeof(float));
    }
    model = std::make_unique<Bert>(config, weights, *kernels, Purpose::training, BatchLimits{64, kBatch});
    optimizer =
        std::make_unique<Optimizer>(config, weights, *kernels, AdamWOptions{}, Schedule(2e-3, 0.1, kSteps), kSteps);
  }

  // Returns the loss.
  float step(const PackedBatch& packed, int s) {
    const Batch batch = device_batch.load(packed, config.label_count());
    optimizer->catch_up(batch);
    model->forward(batch, Randomness{kSeed, static_cast<std::uint32_t>(s)});
    const Bert::Loss result = model->loss(batch, optimizer->step_state());
    model->backward(batch);
    optimizer->step(*model, batch);
    float loss = 0;
    kernels->download(&loss, result.loss.data, sizeof loss);
    return loss;
  }

  void set_state(const StepState& state) {
    kernels->upload(const_cast<StepState*>(optimizer->step_state()), &state, sizeof state);
  }

  // Weights and moments, every row brought up to date.
  std::vector<std::uint8_t> image() {
    optimizer->catch_up();
    std::vector<std::uint8_t> bytes;
    for (const BertWeights* set : {&weights, &optimizer->first_moments(), &optimizer->second_moments()})
      for (const Parameter& parameter : set->list) {
        const std::size_t begin = bytes.size(), size = static_cast<std::size_t>(parameter.value.size()) * sizeof(float);
        bytes.resize(begin + size);
        kernels->download(bytes.data() + begin, parameter.value.data, size);
      }
    return bytes;
  }

  BertConfig config;
  std::unique_ptr<Kernels> kernels;
  BertWeights weights;
  DeviceBatch device_batch;
  std::unique_ptr<Bert> model;
  std::unique_ptr<Optimizer> optimizer;
};

// Each label has a word of its own.
PackedBatch batch_of(const BertConfig& config, int s) {
  testing::TinyRandom random{static_cast<std::uint64_t>(s) + 1};
  Dataset dataset;
  for (int i = 0; i < kBatch; ++i) {
    const std::int32_t label = random.below(testing::kTinyLabels);
    std::vector<std::int32_t> tokens{2, 5 + label};
    for (int n = random.below(9); n > 0; --n) tokens.push_back(9 + random.below(90));
    tokens.push_back(3);
    dataset.append(tokens, std::vector<std::int32_t>{label});
  }
  std::vector<std::int64_t> all(kBatch);
  std::iota(all.begin(), all.end(), 0);
  PackedBatch packed;
  pack(dataset, all, config.label_count(), config.pad_token_id, packed);
  return packed;
}

TEST(Training, FollowsTheCpuThroughAnOverflow) {
  const BertConfig config = config_of_head_dim_26();
  Rig device(config, std::make_unique<CudaKernels>()), cpu(config, make_cpu_kernels(Precision::fp32, 1));
  EXPECT_EQ(device.optimizer->read_state().loss_scale, 65536);
  constexpr int kOverflow = 10, kGrowth = 30;
  std::vector<float> losses;
  std::int32_t skipped = 0;
  for (int s = 0; s < kSteps; ++s) {
    const PackedBatch packed = batch_of(config, s);
    StepState before = device.optimizer->read_state();
    if (s == kOverflow) before.loss_scale = 0x1p24f;  // more than the gradient's fp16 can hold
    if (s == kGrowth) before.clean_steps = 1995;      // the scale is to double within the run
    device.set_state(before);
    const std::vector<std::uint8_t> image =
        s >= kOverflow && s < kOverflow + 2 ? device.image() : std::vector<std::uint8_t>{};
    const float loss = device.step(packed, s);
    const StepState after = device.optimizer->read_state();
    if (after.finite == 0) {
      EXPECT_GE(s, kOverflow);
      EXPECT_EQ(after.skipped, ++skipped);
      EXPECT_EQ(after.updates, before.updates);
      EXPECT_EQ(after.loss_scale, before.loss_scale / 2);
      EXPECT_EQ(after.clean_steps, 0);
      if (!image.empty()) {
        EXPECT_EQ(device.image(), image) << "a skipped step moved something";
      }
      continue;
    }
    EXPECT_EQ(after.updates, before.updates + 1);
    const bool doubles = before.clean_steps + 1 == 2000;
    EXPECT_EQ(after.loss_scale, doubles ? 2 * before.loss_scale : before.loss_scale);
    EXPECT_EQ(after.clean_steps, doubles ? 0 : before.clean_steps + 1);
    const float expected = cpu.step(packed, s);
    losses.push_back(loss);
    EXPECT_NEAR(loss, expected, 0.01 * expected) << "step " << s;
    EXPECT_NEAR(after.gradient_norm, cpu.optimizer->read_state().gradient_norm, 0.03 * after.gradient_norm)
        << "step " << s;
  }
  EXPECT_GE(skipped, 1);
  EXPECT_LE(skipped, 12);
  EXPECT_LT(losses.back(), 0.8f * losses.front());
}

TEST(Training, GivesTheSameBitsAgain) {
  const auto run = [] {
    Rig rig(config_of_head_dim_26(), std::make_unique<CudaKernels>());
    for (int s = 0; s < 6; ++s) rig.step(batch_of(rig.config, s), s);
    return rig.image();
  };
  EXPECT_EQ(run(), run());
}

// A second model's gradients may come to lie where the first one's were.
TEST(Training, TheOptimizerFollowsAnotherModelsWorkingCopies) {
  Rig rig(config_of_head_dim_26(), std::make_unique<CudaKernels>());
  const auto working = [&](const Bert& model) {
    const Tensor weight = model.working().layers[0].ffn_in_weight;
    std::vector<std::uint16_t> values(static_cast<std::size_t>(weight.size()));
    rig.kernels->download(values.data(), weight.data, values.size() * sizeof(std::uint16_t));
    return values;
  };
  for (int s = 0; s < 4; ++s) {
    rig.model.reset();
    rig.model =
        std::make_unique<Bert>(rig.config, rig.weights, *rig.kernels, Purpose::training, BatchLimits{64, kBatch});
    const auto before = working(*rig.model);
    rig.step(batch_of(rig.config, s), s);
    if (s > 0) {
      EXPECT_NE(working(*rig.model), before) << "step " << s;  // the first learning rate of the warm-up is 0
    }
    const Bert fresh(rig.config, rig.weights, *rig.kernels, Purpose::training, BatchLimits{64, kBatch});
    EXPECT_EQ(working(*rig.model), working(fresh)) << "step " << s;
  }
}

TEST(Training, AHeadOfTooManyColumnsIsRefused) {
  BertConfig config = testing::tiny_config();
  config.hidden = 132, config.heads = 2;
  CudaKernels device;
  EXPECT_THROW(BertWeights(config, device), Error);
  config.hidden = 128;
  EXPECT_NO_THROW(BertWeights(config, device));
}

// `train` from a folder to a folder; and in two halves, which must make no difference.
TEST(Training, ARunAndAResumedRun) {
  testing::TemporaryDirectory scratch;
  testing::write_tiny_model(scratch / "model");
  testing::write_tiny_data(scratch / "data");
  const auto options = [&](const char* out) {
    TrainOptions options = testing::tiny_options(scratch / "", out);
    options.recipe.epochs = 1;
    options.save = {8};
    return options;
  };
  const auto never = [] { return 0; };
  CudaKernels whole, first, second;
  const TrainOutcome outcome = train(options("whole"), whole, Progress::Style::silent, never);
  EXPECT_EQ(outcome.state.step, 16);
  EXPECT_NE(read_file(scratch / "whole/metrics.jsonl").find("\"loss_scale\":65536"), std::string::npos);

  int asked = 0;
  const TrainOutcome half =
      train(options("halves"), first, Progress::Style::silent, [&asked] { return ++asked == 9 ? 2 : 0; });
  EXPECT_EQ(half.interrupted, 2);
  TrainOptions rest = options("halves");
  rest.resume = true;
  train(rest, second, Progress::Style::silent, never);
  for (const char* file : {"model.safetensors", "checkpoints/step-16/optimizer.safetensors"})
    EXPECT_TRUE(read_file(scratch / "whole" / file) == read_file(scratch / "halves" / file)) << file;
}

}  // namespace
}  // namespace ember
