// Training in fp16 with a loss scale, beside the CPU's in fp32 from the same weights with the same dropout; and a whole
// run of `train` on the device.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cuda/cuda_kernels.h"
#include "kernels/step_state.h"
#include "model/batches.h"
#include "runtime/cuda/check.h"
#include "runtime/cuda/memory.h"
#include "runtime/file.h"
#include "tests/cuda/briefly.h"
#include "tests/support.h"
#include "tests/train/tiny_run.h"
#include "tests/train/trainer_fixture.h"
#include "tests/train/training_rig.h"
#include "train/checkpoint.h"
#include "train/evaluation.h"
#include "train/fingerprint.h"
#include "train/optimizer.h"
#include "train/schedule.h"
#include "train/step_runner.h"
#include "train/trainer.h"

namespace ember {
namespace {

using testing::kBriefly;
using testing::Rig;

constexpr int kTrainingSteps = kBriefly ? 14 : 50, kBatch = 4;

BertConfig config_of_head_dim_26() {
  BertConfig config = testing::tiny_config();
  config.hidden = 52, config.heads = 2, config.ffn = 100;
  return config;
}

// Of few threads' work, for what no value tells.
BertConfig smallest_config() {
  BertConfig config = testing::tiny_config();
  config.layers = 1, config.hidden = 8, config.heads = 1, config.ffn = 8, config.vocabulary = 9;
  return config;
}

// Each label has a word of its own.
Dataset batch_of(int s) {
  testing::TinyRandom random{static_cast<std::uint64_t>(s) + 1};
  Dataset dataset;
  for (int i = 0; i < kBatch; ++i) {
    const std::int32_t label = random.below(testing::kTinyLabels);
    std::vector<std::int32_t> tokens{2, 5 + label};
    for (int n = random.below(9); n > 0; --n) tokens.push_back(9 + random.below(90));
    tokens.push_back(3);
    dataset.append(tokens, std::vector<std::int32_t>{label});
  }
  return dataset;
}

TEST(Training, FollowsTheCpuThroughAnOverflow) {
  const BertConfig config = config_of_head_dim_26();
  Rig device(config, std::make_unique<CudaKernels>()), cpu(config, make_cpu_kernels(Precision::fp32, 1));
  EXPECT_EQ(model_fingerprint(config, device.weights, *device.kernels),
            model_fingerprint(config, cpu.weights, *cpu.kernels));
  EXPECT_EQ(device.optimizer->read_state().loss_scale, 65536);
  EXPECT_TRUE(device.optimizer->can_lower_scale({.loss_scale = 2 * kSmallestLossScale}));
  EXPECT_FALSE(device.optimizer->can_lower_scale({.loss_scale = kSmallestLossScale}));
  constexpr int kOverflow = kBriefly ? 1 : 10, kGrowth = kBriefly ? 9 : 30;
  std::vector<float> losses;
  std::int32_t skipped = 0, doubled = 0;
  for (int s = 0; s < kTrainingSteps; ++s) {
    const Dataset texts = batch_of(s);
    StepState before = device.optimizer->read_state();
    if (s == kOverflow) before.loss_scale = 0x1p24f;  // more than the gradient's fp16 can hold
    if (s == kGrowth) before.clean_steps = 1995;      // the scale is to double within the run
    device.set_state(before);
    const std::vector<std::uint8_t> image =
        s >= kOverflow && s < kOverflow + 2 ? device.image() : std::vector<std::uint8_t>{};
    const float loss = device.step(texts, s);
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
    doubled += doubles ? 1 : 0;
    EXPECT_EQ(after.loss_scale, doubles ? 2 * before.loss_scale : before.loss_scale);
    EXPECT_EQ(after.clean_steps, doubles ? 0 : before.clean_steps + 1);
    const float expected = cpu.step(texts, s);
    losses.push_back(loss);
    // fp16's roundings add up over the steps: to 0.17% of the loss and 0.5% of the norm at most.
    EXPECT_NEAR(loss, expected, 0.01 * expected) << "step " << s;
    EXPECT_NEAR(after.gradient_norm, cpu.optimizer->read_state().gradient_norm, 0.015 * after.gradient_norm)
        << "step " << s;
  }
  EXPECT_EQ(doubled, 1);
  EXPECT_GE(skipped, 1);
  EXPECT_LE(skipped, 12);  // from 2^24 down to where the gradient fits; 7 here
  if (!kBriefly) {
    EXPECT_LT(losses.back(), 0.8f * losses.front());
  }
}

// All gradients of a small batch leave their squares, of which the norm is as of the gradients themselves; one that is
// overwritten in between goes unnoticed.
TEST(Training, TheNormOfAStepReadsNoGradientAgain) {
  Rig rig(config_of_head_dim_26(), std::make_unique<CudaKernels>());
  const Dataset texts = batch_of(0);
  rig.batches.take(texts);
  const Batch batch = rig.batches.next(texts.size());
  ASSERT_LE(batch.tokens, 64) << "elsewhere products of more rows are Matmul's, unless kernels start early";
  const auto backward = [&] {
    rig.model->forward(batch, Randomness{Rig::kSeed, 0});
    rig.model->loss(batch, rig.optimizer->step_state());
    rig.model->backward(batch);
  };
  std::vector<Tensor> gradients;
  const auto norm = [&] {
    rig.kernels->gradient_norm(const_cast<StepState*>(rig.optimizer->step_state()), gradients);
    return rig.optimizer->read_state().gradient_norm;
  };
  rig.optimizer->catch_up(batch);
  backward();
  for (const Parameter& parameter : parameters(rig.config, rig.model->gradients()))
    gradients.push_back(parameter.value);
  const float of_squares = norm();
  rig.kernels->finish_gradients();  // those before are not the last any more
  EXPECT_NEAR(norm(), of_squares, 4e-6 * of_squares);
  backward();
  const std::vector<float> nan(static_cast<std::size_t>(gradients.back().size()), std::nanf(""));
  rig.kernels->upload(gradients.back().data, nan.data(), nan.size() * sizeof(float));
  EXPECT_EQ(norm(), of_squares);
  rig.kernels->finish_gradients();
  EXPECT_FALSE(std::isfinite(norm()));
}

TEST(Training, GivesTheSameBitsAgain) {
  const auto run = [] {
    Rig rig(config_of_head_dim_26(), std::make_unique<CudaKernels>());
    for (int s = 0; s < 6; ++s) rig.step(batch_of(s), s);
    return rig.image();
  };
  EXPECT_EQ(run(), run());
}

// `steps` steps by the runner over the texts of several batches, in an order that repeats.
std::vector<std::uint8_t> run_steps(Rig& rig, const Dataset& texts, int steps, bool record) {
  rig.batches.take(texts);
  rig.batches.reserve(testing::kRigLimits);
  StepRunner runner(*rig.kernels, *rig.model, *rig.optimizer, rig.batches, Rig::kSeed, record, 0);
  for (int s = 0; s < steps; ++s) {
    if (rig.batches.left() < kBatch) rig.batches.rewind();
    runner.step(kBatch);
  }
  const std::span<const StepRecord> records = runner.records(StepRunner::Wait::yes);
  EXPECT_EQ(static_cast<int>(records.size()), steps);
  for (int s = 0; s < steps; ++s) {
    const StepRecord& record = records[static_cast<std::size_t>(s)];
    EXPECT_EQ(record.state.steps, s + 1);
    EXPECT_TRUE(std::isfinite(record.loss) && record.loss > 0) << s;
  }
  return rig.image();
}

Dataset texts_of_batches(int count) {
  Dataset all;
  for (int s = 0; s < count; ++s) {
    const Dataset batch = batch_of(s);
    for (std::int64_t i = 0; i < batch.size(); ++i) all.append(batch.tokens(i), batch.labels(i));
  }
  return all;
}

// Also after steps that were skipped, whose dropout is not drawn again.
TEST(Training, TheRunnersStepsAreThoseOfModelAndOptimizer) {
  constexpr int kSteps = 5;
  const Dataset texts = texts_of_batches(kSteps);
  Rig by_hand(config_of_head_dim_26(), std::make_unique<CudaKernels>());
  Rig by_runner(config_of_head_dim_26(), std::make_unique<CudaKernels>());
  for (Rig* rig : {&by_hand, &by_runner}) {
    StepState state = rig->optimizer->read_state();
    state.loss_scale = 0x1p19f;  // more than the gradient's fp16 can hold
    rig->set_state(state);
    rig->batches.take(texts);
    rig->batches.reserve(testing::kRigLimits);
  }
  StepRunner runner(*by_runner.kernels, *by_runner.model, *by_runner.optimizer, by_runner.batches, Rig::kSeed, false,
                    0);
  for (int s = 0; s < kSteps; ++s) {
    const BatchShape exact = by_hand.batches.exact_shape(kBatch);
    by_hand.step(by_hand.batches.gather(by_hand.batches.shape(exact)), s);
    by_hand.batches.advance(kBatch);
    EXPECT_EQ(runner.step(kBatch).tokens, exact.tokens);
  }
  EXPECT_EQ(by_runner.image(), by_hand.image());
  const StepState state = by_runner.optimizer->read_state();
  EXPECT_GT(state.skipped, 0);
  EXPECT_GT(state.updates, 0);
}

TEST(Training, ARecordedStepGivesTheSameBits) {
  const Dataset texts = texts_of_batches(3);
  Rig calls(config_of_head_dim_26(), std::make_unique<CudaKernels>());
  Rig graphs(config_of_head_dim_26(), std::make_unique<CudaKernels>());
  const std::int64_t before = launches();
  const std::vector<std::uint8_t> expected = run_steps(calls, texts, 12, false);
  const std::int64_t by_calls = launches() - before;
  EXPECT_EQ(run_steps(graphs, texts, 12, true), expected);
  // Once call by call and once into the recording, for each of one or two shapes.
  EXPECT_LT(launches() - before - by_calls, by_calls / 2);
}

TEST(Training, TheDenseOptimizerGivesTheSameBits) {
  const Dataset texts = texts_of_batches(4);
  Rig lazy(config_of_head_dim_26(), std::make_unique<CudaKernels>());
  Rig dense(config_of_head_dim_26(), std::make_unique<CudaKernels>(), {.optimizer = {.dense = true}});
  EXPECT_EQ(run_steps(dense, texts, 8, false), run_steps(lazy, texts, 8, false));
}

// They do not wait for the next copy to be due.
TEST(Training, RecordsComeAsSoonAsTheyAreCopied) {
  Dataset texts;
  texts.append(std::vector<std::int32_t>{5, 5}, std::vector{0});
  Rig rig(smallest_config(), std::make_unique<CudaKernels>(), {.steps = Optimizer::kRecords});
  rig.batches.take(texts);
  rig.batches.reserve(testing::kRigLimits);
  StepRunner runner(*rig.kernels, *rig.model, *rig.optimizer, rig.batches, Rig::kSeed, true, 0);
  std::size_t steps = 0, read = 0;
  for (; steps < Optimizer::kRecords / 2; ++steps) {
    rig.batches.rewind();
    runner.step(1);
    read += runner.records(StepRunner::Wait::no).size();
  }
  EXPECT_EQ(read, 0u);  // the copy has just begun
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (read == 0 && std::chrono::steady_clock::now() < give_up) read = runner.records(StepRunner::Wait::no).size();
  EXPECT_EQ(read, steps);
}

// Neither a step nor reading what steps leave behind waits for the device.
TEST(Training, NoStepWaitsForTheDevice) {
  Dataset texts;
  for (const std::int32_t length : {2, 3}) texts.append(std::vector<std::int32_t>(length, 5), std::vector{0});
  // Algorithms of products are found at the first step of a shape, which waits.
  constexpr int kWarm = 2, kMany = Optimizer::kRecords + 4;
  for (const bool record : {false, true}) {
    Rig rig(smallest_config(), std::make_unique<CudaKernels>(), {.steps = kMany});
    rig.batches.take(texts);
    rig.batches.reserve(testing::kRigLimits);
    StepRunner runner(*rig.kernels, *rig.model, *rig.optimizer, rig.batches, Rig::kSeed, record, 0);
    std::int64_t read = 0, waits = 0;
    for (int s = 0; s < kMany; ++s) {
      if (s % 2 == 0) rig.batches.rewind();
      const std::int64_t before = synchronisations();
      runner.step(1);
      const std::span<const StepRecord> records = runner.records(StepRunner::Wait::no);
      if (s >= kWarm) waits += synchronisations() - before;
      for (const StepRecord& record_of : records) EXPECT_EQ(record_of.state.steps, ++read);
    }
    EXPECT_EQ(waits, 0);
    EXPECT_GT(read, 0);
    EXPECT_LT(read, kMany);
    EXPECT_EQ(read + static_cast<std::int64_t>(runner.records(StepRunner::Wait::yes).size()), kMany);
  }
}

// Page-locked memory is copied by the device itself, when it comes to that.
TEST(Training, UpAndDownloadsAreDoneWhenTheyReturn) {
  CudaKernels kernels;
  const Buffer host = pinned_buffer(sizeof(int)), device = kernels.allocate(host.size());
  int& value = *static_cast<int*>(host.data());
  const std::int64_t before = synchronisations();
  value = 1;
  kernels.upload(device.data(), host.data(), host.size());
  value = 2;
  kernels.download(host.data(), device.data(), host.size());
  EXPECT_EQ(value, 1);
  EXPECT_EQ(synchronisations(), before + 2);
}

// An evaluation waits twice, at its end, however many batches it has; and so often again to send the data set.
TEST(Training, AnEvaluationWaitsOnlyAtItsEnds) {
  Rig rig(config_of_head_dim_26(), std::make_unique<CudaKernels>());
  const Dataset texts = texts_of_batches(8);
  const auto waits = [&](std::int64_t batch_tokens) {
    const std::int64_t before = synchronisations();
    const Evaluation evaluation = evaluate(*rig.model, *rig.kernels, rig.config, texts, batch_tokens);
    EXPECT_TRUE(std::isfinite(evaluation.loss));
    return synchronisations() - before;
  };
  for (const std::int64_t warm : {16, 64}) waits(warm);
  const std::int64_t few = waits(64), many = waits(16);
  EXPECT_EQ(few, many);
}

// GoEmotions' size: 43,410 texts of 19 tokens; batches of 16, of up to 128 tokens each. By what Ember asks for, since a
// GPU's free memory changes with what others do there.
TEST(Training, TinyBertTakesLessThan400MegabytesOfTheDevice) {
  constexpr std::int64_t kTexts = 43410, kBatchSize = 16, kLongest = 128;
  CudaKernels device;
  const std::size_t before = device_bytes();
  BertConfig config;
  config.labels = anonymous_labels(28);
  BertWeights weights(config, device);
  Dataset texts;
  for (std::int64_t i = 0; i < kTexts; ++i)
    texts.append(std::vector<std::int32_t>(19, 1000), std::vector<std::int32_t>{0});
  Batches batches(device, config, texts);
  batches.reorder(permutation(kTexts, 1, 0));
  const BatchShape largest = device.batch_shape({kBatchSize, kBatchSize, kBatchSize * kLongest, kLongest}, 512);
  const BatchLimits limits{largest.tokens, largest.sequences};
  batches.reserve(limits);
  const Bert model(config, weights, device, Purpose::training, limits);
  const Optimizer optimizer(config, weights, device, {}, Schedule(1, 0, 10856), 10856);
  const double megabytes = static_cast<double>(device_bytes() - before) * 1e-6;
  std::printf("%.1f MB\n", megabytes);
  EXPECT_GT(megabytes, 200) << "weights and moments alone";
  EXPECT_LT(megabytes, 400);
}

// A second model's gradients may come to lie where the first one's were.
TEST(Training, TheOptimizerFollowsAnotherModelsWorkingCopies) {
  Rig rig(config_of_head_dim_26(), std::make_unique<CudaKernels>());
  const auto working = [&](const Bert& model) {
    std::vector<std::uint16_t> values;
    for (const LayerWeights& layer : model.working().layers) {
      const std::size_t begin = values.size(), size = static_cast<std::size_t>(layer.ffn_in_weight.size());
      values.resize(begin + size);
      rig.kernels->download(&values[begin], layer.ffn_in_weight.data, size * sizeof(std::uint16_t));
    }
    return values;
  };
  for (int s = 0; s < 4; ++s) {
    rig.model.reset();
    rig.model = std::make_unique<Bert>(rig.config, rig.weights, *rig.kernels, Purpose::training, testing::kRigLimits);
    const auto before = working(*rig.model);
    rig.step(batch_of(s), s);
    rig.optimizer->catch_up();
    if (s > 0) {
      EXPECT_NE(working(*rig.model), before) << "step " << s;  // the first learning rate of the warm-up is 0
    }
    const Bert fresh(rig.config, rig.weights, *rig.kernels, Purpose::training, testing::kRigLimits);
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
  constexpr int kSteps = kBriefly ? 8 : 16;
  const auto options = [&](const char* out) {
    TrainOptions options = testing::tiny_options(scratch / "", out);
    options.max_steps = kSteps;
    options.save = {kSteps / 2};
    return options;
  };
  const auto never = [] { return 0; };
  CudaKernels whole, first, second, calls;
  const std::int64_t before = launches();
  const TrainOutcome outcome = train(options("whole"), whole, Progress::Style::silent, never);
  const std::int64_t recorded = launches() - before;
  EXPECT_EQ(outcome.state.step, kSteps);
  EXPECT_NE(read_file(scratch / "whole/metrics.jsonl").find("\"loss_scale\":65536"), std::string::npos);
  const TrainOutcome exact =
      train(options("cpu"), *make_cpu_kernels(Precision::fp32, 1), Progress::Style::silent, never);
  EXPECT_NEAR(outcome.state.best.loss, exact.state.best.loss, 2e-4 * exact.state.best.loss);  // here 2e-6
  using testing::TrainerTest;
  const auto logged = TrainerTest::events(scratch / "whole", "train");
  const auto expected = TrainerTest::events(scratch / "cpu", "train");
  ASSERT_EQ(logged.size(), expected.size());
  EXPECT_EQ(logged.back()["step"], kSteps);
  EXPECT_NEAR(logged.back()["loss"].get<double>(), expected.back()["loss"].get<double>(), 2e-4);
  std::vector<std::string> notes;
  const auto checkpoint = newest_checkpoint(scratch / "whole", notes);
  ASSERT_TRUE(checkpoint && notes.empty());
  EXPECT_EQ(checkpoint->state.step, kSteps);
  EXPECT_EQ(checkpoint->choices, whole.choices());  // none under the emulator

  TrainOptions by_calls = options("calls");
  by_calls.graph = false;
  train(by_calls, calls, Progress::Style::silent, never);
  EXPECT_GT(launches() - before - recorded, recorded);
  const std::string files[] = {"model.safetensors", fmt::format("checkpoints/step-{}/optimizer.safetensors", kSteps)};
  for (const std::string& file : files)
    EXPECT_TRUE(read_file(scratch / "whole" / file) == read_file(scratch / "calls" / file)) << file;

  int asked = 0;
  const TrainOutcome half =
      train(options("halves"), first, Progress::Style::silent, [&asked] { return asked++ == kSteps / 2 + 1 ? 2 : 0; });
  EXPECT_EQ(half.interrupted, 2);
  TrainOptions rest = options("halves");
  rest.resume = true;
  train(rest, second, Progress::Style::silent, never);
  for (const std::string& file : files)
    EXPECT_TRUE(read_file(scratch / "whole" / file) == read_file(scratch / "halves" / file)) << file;
  EXPECT_EQ(TrainerTest::events(scratch / "whole"), TrainerTest::events(scratch / "halves"));
}

// A text that fp16 cannot hold leaves the scale as it is, for those that it can.
TEST(Training, ALossBeyondFp16IsNoReasonForASmallerScale) {
  Rig rig(testing::tiny_config(), std::make_unique<CudaKernels>());
  const float large = 1e5f;
  rig.kernels->upload(rig.weights.tensors.layers[0].ffn_in_weight.data, &large, sizeof large);
  rig.model.reset();
  rig.model = std::make_unique<Bert>(rig.config, rig.weights, *rig.kernels, Purpose::training, testing::kRigLimits);
  EXPECT_FALSE(std::isfinite(rig.step(batch_of(0), 0)));
  const StepState state = rig.optimizer->read_state();
  EXPECT_EQ(state.skipped, 1);
  EXPECT_EQ(state.loss_scale, 65536);
}

// The CPU trains them.
TEST(Training, WeightsThatFp16CannotHoldAreTold) {
  const testing::TemporaryDirectory scratch;
  testing::write_tiny_model(scratch / "model");
  testing::write_tiny_data(scratch / "data");
  TrainOptions options = testing::tiny_options(scratch / "", "out");
  options.max_steps = 2;
  const std::unique_ptr<Kernels> cpu = make_cpu_kernels(Precision::fp32, 1);
  const auto never = [] { return 0; };
  train(options, *cpu, Progress::Style::silent, never);
  const LoadedModel model = load_hugging_face(scratch / "out", *cpu);
  model.weights.tensors.layers[0].ffn_in_weight.f32()[0] = 1e5f;
  std::filesystem::create_directory(scratch / "large");
  save_hugging_face(scratch / "large", model.config, model.weights, *cpu, model.tokenizer);
  options.model = scratch / "large", options.from_scratch = false, options.overwrite = true;
  train(options, *cpu, Progress::Style::silent, never);
  CudaKernels device;
  const auto error = [&] { return testing::error_of([&] { train(options, device, Progress::Style::silent, never); }); };
  EXPECT_EQ(error(),
            "step 2: the loss on dev is not finite with the weights of --model as they are, in fp16 (up to 65504); "
            "--device cpu --overwrite trains in fp32");
  if (kBriefly) return;
  options.recipe.epochs = 4, options.max_steps = 60, options.evaluate = {60};
  EXPECT_EQ(error().substr(0, 40), "step 48: the gradient is not finite with");
}

}  // namespace
}  // namespace ember
