// What is saved while the device trains on.
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/cuda/cuda_kernels.h"
#include "runtime/file.h"
#include "tests/support.h"
#include "tests/train/tiny_run.h"
#include "train/saver.h"
#include "train/trainer.h"

namespace ember {
namespace {

// A copy is written of what the weights were at the call, and nothing after a job that failed.
TEST(Saving, IsOfACopyAndKeepsTheOrder) {
  const BertConfig config = testing::tiny_config();
  CudaKernels kernels;
  const BertWeights weights(config, kernels), first(config, kernels), second(config, kernels);
  const BertWeights* const one[] = {&weights};
  const BertWeights* const all[] = {&weights, &first, &second};
  const Parameter& last = weights.list.back();
  const auto set_last = [&](float value) {
    const std::vector<float> values(static_cast<std::size_t>(last.value.size()), value);
    kernels.upload(last.value.data, values.data(), values.size() * sizeof(float));
  };
  std::vector<float> written;
  const auto write = [&written](Saver::Sets saved, Kernels&) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // so that the next copy would come meanwhile
    written.push_back(saved[0]->list.back().value.f32()[0]);
  };
  Saver saver(config, kernels);
  for (const float value : {1.0f, 2.0f, 3.0f}) {
    set_last(value);
    saver.save(value == 2 ? Saver::Sets(all) : Saver::Sets(one), write);
    set_last(-1);
  }
  saver.finish();
  EXPECT_EQ(written, (std::vector<float>{1, 2, 3}));

  auto content = std::make_shared<int>();
  const std::weak_ptr<int> of_the_job = content;
  saver.save(one, [content = std::exchange(content, {})](Saver::Sets, Kernels&) {});
  saver.save(one, [](Saver::Sets, Kernels&) {});
  saver.finish();
  EXPECT_TRUE(of_the_job.expired()) << "what a checkpoint wrote is kept after the next one";

  saver.save(one, [](Saver::Sets, Kernels&) { throw Error("the disk is full"); });
  EXPECT_THROW(
      {
        saver.save(all, write);
        saver.finish();
      },
      Error);
  EXPECT_EQ(written.size(), 3u);
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

}  // namespace
}  // namespace ember
