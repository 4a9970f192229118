// A program of its own, because on a processor without bf16 instructions it is skipped.
#include "runtime/file.h"
#include "tests/support.h"
#include "tests/train/tiny_run.h"
#include "train/trainer.h"

namespace ember {
namespace {

TrainOutcome run(const TrainOptions& options, std::int64_t steps = -1) {
  std::int64_t made = 0;
  return train(options, Progress::Style::silent, [&] { return made++ == steps ? 1 : 0; });
}

std::string weights(const TrainOptions& options) {
  return read_file(options.out / "checkpoints" / "step-48" / "model.safetensors");
}

TEST(Bf16Training, LearnsAndResumesBitForBit) {
  const testing::TemporaryDirectory scratch;
  testing::write_tiny_model(scratch / "model");
  testing::write_tiny_data(scratch / "data");
  TrainOptions whole = testing::tiny_options(scratch.path(), "whole");
  whole.precision = "bf16";
  std::string note;
  EMBER_NEEDS(make_kernels(whole, note));
  TrainOptions stopped = whole, single = whole;
  const TrainOutcome outcome = run(whole);

  stopped.out = scratch / "stopped";
  EXPECT_EQ(run(stopped, 20).state.step, 20);
  stopped.resume = true;
  run(stopped);
  EXPECT_EQ(weights(stopped), weights(whole));

  single.out = scratch / "single", single.precision = "fp32";
  // Roundings of 0.4% mostly cancel: they differ by 0.00002.
  EXPECT_NEAR(run(single).state.best.loss, outcome.state.best.loss, 0.001);
  EXPECT_NE(weights(single), weights(whole));
}

}  // namespace
}  // namespace ember
