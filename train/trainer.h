// A whole run: read everything, train, evaluate, keep the best model, save checkpoints.
#pragma once

#include <filesystem>
#include <functional>

#include "train/checkpoint.h"
#include "train/options.h"
#include "train/progress.h"

namespace ember {

struct TrainOutcome {
  TrainingState state;
  int interrupted = 0;               // what the request to stop said; 0 when the run is complete
  std::filesystem::path checkpoint;  // the newest; empty where the run was stopped before it wrote anything
};

// Runs as `options` say, which must be valid. `stop_requested` is asked before anything is written and after every
// step: anything but 0 ends the run, there at once and here with a checkpoint. Progress and notes go to standard error.
// Error when an input is bad (then nothing has been written), when training diverges, or when a file cannot be written
// (then the last checkpoint is whole). On the CPU no handler of a signal may run on the stack of a thread that computes
// (train/main.cpp says why).
TrainOutcome train(const TrainOptions& options, Progress::Style style, const std::function<int()>& stop_requested);
// On the given backend, whatever --device, --precision and --threads say.
TrainOutcome train(const TrainOptions& options, Kernels& kernels, Progress::Style style,
                   const std::function<int()>& stop_requested);

}  // namespace ember
