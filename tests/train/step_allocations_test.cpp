// A training step takes no memory: operator new counts, in this whole program.
#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "kernels/kernels.h"
#include "tests/count_allocations.h"
#include "tests/support.h"
#include "tests/train/tiny_run.h"
#include "tests/train/training_rig.h"
#include "train/step_runner.h"

namespace ember {
namespace {

using testing::allocations;

constexpr int kTexts = 24, kBatch = 4, kSteps = kTexts / kBatch;

Dataset texts_of_many_lengths(const BertConfig& config) {
  Dataset texts;
  for (int i = 0; i < kTexts; ++i) {
    std::vector<std::int32_t> ids(static_cast<std::size_t>(3 + i * 7 % 13));
    std::iota(ids.begin(), ids.end(), i % 7);
    for (std::int32_t& id : ids) id %= static_cast<std::int32_t>(config.vocabulary);
    texts.append(ids, std::vector<std::int32_t>{i % 2});
  }
  return texts;
}

// Nor do batches of other lengths, once one as large as any has been seen.
void expect_none(Precision precision, int threads) {
  const BertConfig config = testing::tiny_config();
  testing::Rig rig(config, make_cpu_kernels(precision, threads), {.steps = 2 * kSteps});
  const Dataset texts = texts_of_many_lengths(config);
  rig.batches.take(texts);
  rig.batches.reserve(testing::kRigLimits);
  std::vector<std::int64_t> order(kTexts);
  std::iota(order.begin(), order.end(), 0);
  StepRunner runner(*rig.kernels, *rig.model, *rig.optimizer, rig.batches, testing::Rig::kSeed, true, 0);
  const auto epoch = [&] {
    for (int s = 0; s < kSteps; ++s) {
      runner.step(kBatch);
      for (const StepRecord& record : runner.records(StepRunner::Wait::no)) EXPECT_TRUE(std::isfinite(record.loss));
    }
  };
  rig.batches.reorder(order);
  epoch();
  rig.batches.reorder(order);
  const std::int64_t before = allocations;
  epoch();
  EXPECT_EQ(allocations - before, 0) << threads << " threads";
}

TEST(StepAllocations, AStepNeedsNone) {
  for (const int threads : {1, 2}) expect_none(Precision::fp32, threads);
}

TEST(StepAllocations, NorOneInBf16) {
  EMBER_NEEDS(make_cpu_kernels(Precision::bf16, 1));
  for (const int threads : {1, 2}) expect_none(Precision::bf16, threads);
}

}  // namespace
}  // namespace ember
