// The CUDA side of bench/ under the emulator: every benchmark's call runs on the CUDA backend, its times are in the
// order of the work, and launches are counted.
#include <gtest/gtest.h>

#include "bench/operations.h"
#include "bench/shapes.h"
#include "bench/time_call.h"
#include "bench/training_step.h"

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
    ASSERT_TRUE(applies(operation, backend().kernels())) << operation.name();
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

// A step of a model of one layer more launches the same number more, but for the optimizer, whose launches take many
// parameters each and may need one more or not; and every step as many.
TEST(CudaBenchmarks, LaunchesOfAStepGrowByTheLayer) {
  const Problem problem = small_problem();
  std::vector<std::int64_t> launches;
  for (const std::int64_t layers : {2, 3, 4}) {
    BertConfig config = problem.model;
    config.layers = layers;
    TrainingStep step(backend(), config, {1e9, 1e9});
    const StepBudget budget{.repetitions = 1, .seconds = 1e-3};
    const StepResult result = step.measure(problem.texts, 1, budget);
    ASSERT_EQ(result.repetitions.size(), 1u);
    EXPECT_GE(result.repetitions[0].step, result.repetitions[0].forward + result.repetitions[0].backward);
    launches.push_back(result.launches.value());
    EXPECT_EQ(step.measure(problem.texts, 1, budget).launches, launches.back());
  }
  EXPECT_GT(launches[1], launches[0] + 20);  // a layer has 4 products and 4 kernels forward, twice that backward
  EXPECT_NEAR(static_cast<double>(launches[2] - launches[1]), static_cast<double>(launches[1] - launches[0]), 1);
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
  backend().reset_peak_memory();
  const Buffer buffer = backend().kernels().allocate(1 << 20);
  EXPECT_GE(backend().peak_memory(), std::size_t{1} << 20);
}

}  // namespace
}  // namespace ember
