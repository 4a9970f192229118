// A training step, as `train` does it, taken apart into its phases.
#pragma once

#include <optional>
#include <vector>

#include "bench/backend.h"
#include "bench/peaks.h"
#include "data/dataset.h"
#include "model/bert.h"
#include "model/config.h"
#include "train/optimizer.h"

namespace ember {

// Seconds of one step. `optimizer`: bringing rows of the word embedding up to date before, the update after. `step`:
// all that the device does with a batch, gathering it included. As graphs the phases are timed one by one and the step
// as a whole, so that the phases need not add up to it.
struct PhaseSeconds {
  double forward = 0, backward = 0, optimizer = 0, step = 0;
};

struct StepResult {
  std::int64_t batch_size = 0;
  double tokens = 0;                      // a batch, on average
  bool recorded = false;                  // whether what was timed was recorded first (Kernels::record)
  std::vector<PhaseSeconds> repetitions;  // each the mean over the batches
  std::optional<std::int64_t> launches;   // of one step
  std::size_t peak_memory = 0;            // bytes
  double floor = 0;                       // seconds of a step on average (bench/step_work.h)
};

struct StepBudget {
  int repetitions = 5;
  double seconds = 0.4;  // of a repetition; it has one step at least
  bool record = true;    // where the backend can, as train does
};

// Model, optimizer and weights on a backend; the weights are drawn.
class TrainingStep {
 public:
  TrainingStep(Backend& backend, const BertConfig& config, const Peaks& peaks);

  // Steps on batches of `batch_size` texts from the start of `texts`, which must hold that many; each repetition on the
  // same ones, so that repetitions differ by noise alone.
  StepResult measure(const Dataset& texts, std::int64_t batch_size, StepBudget budget);
  // Whether the backend has something to gain from recording.
  bool records() const { return !backend_.kernels().on_host(); }
  // After the last step given; waits for it.
  StepState state() const { return optimizer_.read_state(); }

 private:
  Backend& backend_;
  const BertConfig& config_;
  Peaks peaks_;
  BertWeights weights_;
  Optimizer optimizer_;
};

}  // namespace ember
