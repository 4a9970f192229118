// What the tests of whole runs share.
#pragma once

#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_kernels.h"
#include "runtime/file.h"
#include "tests/support.h"
#include "tests/train/tiny_run.h"
#include "train/trainer.h"

namespace ember::testing {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr int kNever = 1 << 30;

// No step of theirs updates anything.
struct OverflowingKernels final : CpuKernels {
  OverflowingKernels() : CpuKernels(Precision::fp32, 1) {}
  void gradient_norm(StepState* state, std::span<const Tensor> gradients) override {
    CpuKernels::gradient_norm(state, gradients);
    state->finite = 0;
  }
};

// Runs over a tiny model and data, each into a folder of its own.
class TrainerTest : public ::testing::Test {
 public:
  // The events of metrics.jsonl without what the clock decides, without the checkpoints, which interruptions add, and
  // without the start, which names all flags.
  static std::vector<Json> events(const fs::path& out, const std::string& kind = "") {
    std::vector<Json> result;
    std::istringstream lines(read_file(out / "metrics.jsonl"));
    for (std::string line; std::getline(lines, line);) {
      Json event = Json::parse(line);
      event.erase("examples_per_second");
      event.erase("tokens_per_second");
      const std::string its = event["event"];
      if (kind.empty() ? its != "checkpoint" && its != "start" : its == kind) result.push_back(event);
    }
    return result;
  }

 protected:
  TrainerTest() {
    write_tiny_model(scratch / "model");
    write_tiny_data(scratch / "data");
  }

  TrainOptions options(const std::string& out) const { return tiny_options(scratch.path(), out); }

  // Runs until `steps` steps have been made in this call, then asks to stop.
  static TrainOutcome run(const TrainOptions& options, int steps = kNever) {
    int made = 0;
    return train(options, Progress::Style::silent, [&] { return made++ == steps ? SIGTERM : 0; });
  }

  static std::string complaint(const TrainOptions& options) {
    return testing::error_of([&] { run(options); });
  }

  static std::string model(const fs::path& out) { return read_file(out / "model.safetensors"); }
  static std::string last_weights(const fs::path& out) {
    return read_file(out / "checkpoints/step-48/model.safetensors");
  }
  static std::string last_moments(const fs::path& out) {
    return read_file(out / "checkpoints/step-48/optimizer.safetensors");
  }

  static void expect_same_run(const fs::path& a, const fs::path& b) {
    EXPECT_EQ(model(a), model(b));
    EXPECT_EQ(last_weights(a), last_weights(b));
    EXPECT_EQ(last_moments(a), last_moments(b));
    EXPECT_EQ(events(a), events(b));
  }

  TemporaryDirectory scratch;
};

}  // namespace ember::testing
