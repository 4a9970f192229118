// The CUDA side of bench/ under the emulator: every benchmark's call runs on the CUDA backend, its times are in the
// order of the work, and launches are counted.
#include <gtest/gtest.h>

#include "bench/operations.h"
#include "bench/shapes.h"
#include "bench/time_call.h"
#include "bench/training_step.h"
#include "runtime/cuda/device.h"

namespace ember {
namespace {

Backend& backend() {
  static const std::unique_ptr<Backend> instance = make_cuda_backend("cuda");
  return *instance;
}

Problem small_problem() {
  BertConfig model = model_shape("tinybert");
  model.vocabulary = 1100, model.hidden = 52, model.layers = 2, model.heads = 2, model.ffn = 64, model.positions = 40;
  return {model, synthetic_texts(lengths_of_tokens(24), model.vocabulary, model.label_count())};
}

TEST(CudaBenchmarks, EveryOperationRunsAgainAndAgain) {
  const Problem problem = small_problem();
  for (const Operation& operation : all_operations()) {
    ASSERT_NE(applies(operation, backend().kernels()), operation.frozen) << operation.name();
    if (operation.frozen) continue;
    SCOPED_TRACE(operation.name());
    Workspace workspace(backend().kernels(), problem);
    const Prepared prepared = operation.prepare(workspace);
    for (int i = 0; i < 2; ++i) {
      if (prepared.reset) prepared.reset();
      const std::int64_t before = *backend().launches();
      ASSERT_NO_THROW(prepared.call());
      EXPECT_GT(*backend().launches(), before) << "a call that launches nothing computes nothing";
    }
  }
}

TEST(CudaBenchmarks, LaunchesAreCounted) {
  const Problem problem = small_problem();
  Workspace workspace(backend().kernels(), problem);
  Kernels& kernels = workspace.kernels();
  const Tensor rows = workspace.activations(8, 52), in = workspace.activations(8, 64);
  const Tensor out = workspace.activations(8, 64);
  const Tensor weight = workspace.product_weights(64, 52), bias = workspace.floats(1, 64);
  const std::int64_t before = *backend().launches();
  kernels.gelu_forward(out, in, bias);
  EXPECT_EQ(*backend().launches(), before + 1);
  kernels.linear_forward(out, rows, weight, {});
  EXPECT_EQ(*backend().launches(), before + 2);
  kernels.linear_forward(out.row_block(0, 0), rows.row_block(0, 0), weight, {});  // nothing to do, nothing launched
  EXPECT_EQ(*backend().launches(), before + 2);
}

std::int64_t launches_of_a_step(const Problem& problem, std::int64_t batch_size) {
  TrainingStep step(backend(), problem.model, {1e9, 1e9});
  StepBudget budget{.repetitions = 1, .seconds = 1e-3, .record = false};
  const StepResult result = step.measure(problem.texts, batch_size, budget);
  EXPECT_FALSE(result.recorded);
  EXPECT_EQ(result.repetitions.size(), 1u);
  EXPECT_GE(result.repetitions[0].step, result.repetitions[0].forward + result.repetitions[0].backward);
  budget.record = true;
  const StepResult recorded = step.measure(problem.texts, batch_size, budget);
  EXPECT_TRUE(recorded.recorded);
  EXPECT_GT(recorded.repetitions[0].step, 0);
  EXPECT_GT(recorded.repetitions[0].forward, 0);
  EXPECT_EQ(recorded.launches, result.launches) << "not every step as many";
  return result.launches.value();
}

// A recorded repetition gives its steps twice, and one before it is not timed: four times the batches of a repetition
// call by call, which must leave the same bits then. Each begins a run anew, so none comes to the schedule's end.
TEST(CudaBenchmarks, RecordedStepsDoWhatTheCallsDo) {
  Problem problem = small_problem();
  constexpr std::int64_t kBatches = 3, kTexts = 2;
  problem.texts = synthetic_texts({24, 9, 40, 40, 5, 7}, problem.model.vocabulary, problem.model.label_count());
  const auto state_after = [&](const StepBudget& budget) {
    TrainingStep step(backend(), problem.model, {1e9, 1e9});
    EXPECT_EQ(step.measure(problem.texts, kTexts, budget).recorded, budget.record);
    return step.state();
  };
  constexpr double kAllBatches = 600;  // seconds, for every batch to be in a repetition
  const StepState calls = state_after({.repetitions = 4, .seconds = kAllBatches, .record = false});
  const StepState recorded = state_after({.repetitions = 1, .seconds = kAllBatches, .record = true});
  EXPECT_EQ(recorded.updates, kBatches);
  EXPECT_EQ(recorded.skipped, 0) << "the update was not measured";
  EXPECT_GT(recorded.gradient_norm, 0);
  EXPECT_EQ(recorded.gradient_norm, calls.gradient_norm);
  EXPECT_EQ(recorded.loss_scale, calls.loss_scale);
  EXPECT_EQ(recorded.steps, calls.steps);
}

// Weights' gradients and the optimizer take all layers together, at most one launch more for as many operands as their
// lists hold.
TEST(CudaBenchmarks, LaunchesOfAStepGrowByTheLayer) {
  Problem problem = small_problem();
  std::vector<std::int64_t> launches;
  for (const std::int64_t layers : {2, 3, 4}) {
    problem.model.layers = layers;
    launches.push_back(launches_of_a_step(problem, 1));
  }
  constexpr std::int64_t kOfALayer = 8 + 8;  // forward, backward: 4 products and 4 kernels each
  for (const std::size_t i : {0u, 1u}) {
    EXPECT_GE(launches[i + 1] - launches[i], kOfALayer);
    EXPECT_LE(launches[i + 1] - launches[i], kOfALayer + 2);
  }
}

// TinyBERT at a batch of 16: what a step costs on a fast GPU. docs/performance.md says what they are. Rows have
// TinyBERT's alignment, which products of our own need.
TEST(CudaBenchmarks, LaunchesOfTinyBertsStep) {
  Problem problem = small_problem();
  problem.model.layers = model_shape("tinybert").layers, problem.model.hidden = 48;
  problem.texts = synthetic_texts(lengths_of_texts(16), problem.model.vocabulary, problem.model.label_count());
  EXPECT_LE(launches_of_a_step(problem, 16), starts_early() ? 73 : 80);
}

TEST(CudaBenchmarks, TimesACall) {
  const Problem problem = small_problem();
  Workspace workspace(backend().kernels(), problem);
  int resets = 0, calls = 0;
  const std::function<void()> call = [&] { ++calls; }, reset = [&] { ++resets; };
  for (const Cache cache : {Cache::warm, Cache::cold}) EXPECT_GE(time_call(backend(), call, reset, cache, {1e-6}), 0);
  EXPECT_GT(calls, 0);
  EXPECT_EQ(calls, resets) << "what a call uses up is restored before each";
}

TEST(CudaBenchmarks, LapsAreBetweenMarks) {
  EXPECT_TRUE(backend().laps().empty());
  backend().mark();
  EXPECT_TRUE(backend().laps().empty());
  for (int i = 0; i < 3; ++i) backend().mark();
  const std::vector<double> laps = backend().laps();
  ASSERT_EQ(laps.size(), 2u);
  for (const double seconds : laps) EXPECT_GE(seconds, 0);
  EXPECT_TRUE(backend().laps().empty());
}

TEST(CudaBenchmarks, MemoryIsWhatWasTaken) {
  const std::size_t before = backend().peak_memory();
  const Buffer buffer = backend().kernels().allocate(1 << 20);
  backend().reset_peak_memory();
  EXPECT_GE(backend().peak_memory(), before + (std::size_t{1} << 20));
}

}  // namespace
}  // namespace ember
