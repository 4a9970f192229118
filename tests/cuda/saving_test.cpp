// What is saved while the device trains on.
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <fstream>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/cuda/cuda_kernels.h"
#include "runtime/file.h"
#include "tests/cuda/briefly.h"
#include "tests/support.h"
#include "tests/train/tiny_run.h"
#include "train/saver.h"
#include "train/trainer.h"

namespace ember {
namespace {

class SaverTest : public ::testing::Test {
 protected:
  const BertConfig config_ = testing::tiny_config();
  CudaKernels kernels_;
  const BertWeights weights_{config_, kernels_}, first_{config_, kernels_}, second_{config_, kernels_};
  const BertWeights* const one_[1] = {&weights_};
  const BertWeights* const all_[3] = {&weights_, &first_, &second_};
};

// A copy is written of what the weights were at the call, and nothing after a job that failed.
TEST_F(SaverTest, IsOfACopyAndKeepsTheOrder) {
  const Parameter& last = weights_.list.back();
  const auto set_last = [&](float value) {
    const std::vector<float> values(static_cast<std::size_t>(last.value.size()), value);
    kernels_.upload(last.value.data, values.data(), values.size() * sizeof(float));
  };
  std::vector<float> written;
  const auto write = [&written](Saver::Sets saved, Kernels&) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // so that the next copy would come meanwhile
    written.push_back(saved[0]->list.back().value.f32()[0]);
  };
  Saver saver(config_, kernels_);
  for (const float value : {1.0f, 2.0f, 3.0f}) {
    set_last(value);
    saver.save(value == 2 ? Saver::Sets(all_) : Saver::Sets(one_), write);
    set_last(-1);
  }
  saver.finish();
  EXPECT_EQ(written, (std::vector<float>{1, 2, 3}));

  auto content = std::make_shared<int>();
  const std::weak_ptr<int> of_the_job = content;
  saver.save(one_, [content = std::exchange(content, {})](Saver::Sets, Kernels&) {});
  saver.save(one_, [](Saver::Sets, Kernels&) {});
  saver.finish();
  EXPECT_TRUE(of_the_job.expired()) << "what a checkpoint wrote is kept after the next one";

  saver.save(one_, [](Saver::Sets, Kernels&) { throw Error("the disk is full"); });
  EXPECT_THROW(
      {
        saver.save(all_, write);
        saver.finish();
      },
      Error);
  EXPECT_EQ(written.size(), 3u);
}

// Such as a checkpoint, which would hold a best model that is not its run's.
TEST_F(SaverTest, NothingIsWrittenAfterAJobThatFailed) {
  std::promise<void> both_given;
  bool written = false;
  {
    Saver saver(config_, kernels_);
    saver.save(one_, [&](Saver::Sets, Kernels&) {
      both_given.get_future().wait();
      throw Error("the disk is full");
    });
    saver.save(all_, [&](Saver::Sets, Kernels&) { written = true; });
    both_given.set_value();
    EXPECT_EQ(testing::error_of([&] { saver.finish(); }), "the disk is full");
  }
  EXPECT_FALSE(written);
}

// Not only at the next save, which may be an hour later.
TEST_F(SaverTest, AFailureIsNoticedAsSoonAsItIsThere) {
  Saver saver(config_, kernels_);
  saver.save(one_, [](Saver::Sets, Kernels&) { throw Error("the disk is full"); });
  std::string noticed;
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (noticed.empty() && std::chrono::steady_clock::now() < give_up)
    noticed = testing::error_of([&] { saver.check(); });
  EXPECT_EQ(noticed, "the disk is full");
  EXPECT_EQ(testing::error_of([&] { saver.save(all_, [](Saver::Sets, Kernels&) {}); }), "the disk is full");
}

// Whether the run stops then or comes to its end.
TEST(Saving, WhatCannotBeWrittenIsTheRunsError) {
  testing::TemporaryDirectory scratch;
  testing::write_tiny_model(scratch / "model");
  testing::write_tiny_data(scratch / "data");
  for (const int signal : {SIGTERM, 0}) {
    TrainOptions options = testing::tiny_options(scratch / "", signal == 0 ? "ended" : "stopped");
    options.max_steps = 2;
    CudaKernels kernels;
    int asked = 0;
    const auto after_a_step = [&] {
      if (asked++ == 0) return 0;
      write_file(options.out / "checkpoints", "in the way");
      return signal;
    };
    const std::string message =
        testing::error_of([&] { train(options, kernels, Progress::Style::silent, after_a_step); });
    EXPECT_EQ(message.find((options.out / "checkpoints: cannot be made: ").string()), 0u) << message;
  }
}

// A third of the texts have a word whose sums are too large for fp16, so that they have no finite loss: steps that have
// one of these are skipped.
class LargeWordTest : public ::testing::Test {
 protected:
  LargeWordTest() {
    testing::write_tiny_model(scratch_ / "given");
    testing::write_tiny_data(scratch_ / "data");
    constexpr int kLarge = 9;
    std::ofstream rows(scratch_ / "data/train.tsv");
    for (int row = 0; row < 24; ++row)
      rows << "word" << (row % 3 == 0 ? kLarge : 5 + row % 4) << "\t0\tid" << row << "\n";
    std::ofstream(scratch_ / "data/dev.tsv") << "word5\t0\tid0\nword6\t1\tid1\n";
    const BertConfig config = testing::tiny_config();
    const auto host = make_cpu_kernels(Precision::fp32, 1);
    BertWeights weights(config, *host);
    draw_all(weights, 0.2f, 7, *host);
    std::fill_n(weights.list.front().value.row(kLarge), config.hidden, 70000.0f);
    std::filesystem::create_directories(scratch_ / "model");
    save_hugging_face(scratch_ / "model", config, weights, *host,
                      {read_vocabulary(scratch_ / "given/vocab.txt"), true});
  }
  TrainOptions options(const char* out, std::int64_t epochs) const {
    TrainOptions options = testing::tiny_options(scratch_ / "", out);
    options.recipe.epochs = epochs, options.from_scratch = false;
    return options;
  }
  static void run(const TrainOptions& options, Progress::Style style = Progress::Style::silent, int steps = -1) {
    CudaKernels kernels;
    int made = 0;
    train(options, kernels, style, [&] { return made++ == steps ? SIGTERM : 0; });
  }

  const testing::TemporaryDirectory scratch_;
};

// A checkpoint soon after such a step can be resumed, with the bits of a run that was not interrupted.
TEST_F(LargeWordTest, ASkippedStepWithoutALossSpoilsNoCheckpoint) {
  run(options("whole", 1));
  EXPECT_NE(read_file(scratch_ / "whole/metrics.jsonl").find("\"skipped_steps\":"), std::string::npos);
  EXPECT_EQ(read_file(scratch_ / "whole/metrics.jsonl").find("\"skipped_steps\":0"), std::string::npos);
  run(options("halves", 1), Progress::Style::silent, 2);
  std::vector<std::string> notes;
  const std::optional<Checkpoint> checkpoint = newest_checkpoint(scratch_ / "halves", notes);
  ASSERT_TRUE(checkpoint && notes.empty());
  EXPECT_GT(checkpoint->step_state.skipped, 0);
  TrainOptions rest = options("halves", 1);
  rest.resume = true;
  run(rest);
  EXPECT_TRUE(read_file(scratch_ / "whole/model.safetensors") == read_file(scratch_ / "halves/model.safetensors"));
}

TEST_F(LargeWordTest, ManySkippedStepsAreTold) {
  if (testing::kBriefly) GTEST_SKIP() << "66 steps";
  const auto said = [&](std::int64_t epochs) {
    TrainOptions o = options("out", epochs);
    o.overwrite = true, o.evaluate.steps = o.save.steps = 66;
    return testing::stderr_of([&] { run(o, Progress::Style::lines); });
  };
  EXPECT_EQ(said(1).find("skipped"), std::string::npos) << "a few are usual";
  EXPECT_CONTAINS(said(11), " of 66 steps were skipped, since a number of theirs was beyond fp16 (up to 65504); ");
}

}  // namespace
}  // namespace ember
