// The way of a training step, from the batch to the updated weights, without waiting for the device: everything that a
// step decides by lies there (StepState). Where the backend records work, a step of a shape that has occurred before is
// one call, and so is the host's share of it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "model/batches.h"
#include "model/bert.h"
#include "train/optimizer.h"

namespace ember {

class StepRunner {
 public:
  // Goes on after `steps_done`, which must be what the optimizer's state says. Dropout draws from `seed`. `batches` and
  // `model` must have room for every batch to come; between steps `batches` may be reordered with as many rows as at
  // the first step, not be given another data set or an order for the first time, which recordings would not know.
  // `record`: whether to record work where the backend can; it makes no difference to the bits.
  StepRunner(Kernels& kernels, Bert& model, Optimizer& optimizer, Batches& batches, std::uint64_t seed, bool record,
             std::int64_t steps_done);

  // A step on the next `rows` rows. Returns their shape, without a filling, when the device has been told, which need
  // not have done it.
  BatchShape step(std::int64_t rows);

  enum class Wait { no, yes };
  // The records of the steps since the last call, in order: of those that have come back, or of all, which waits. They
  // are copied in lots and handed on as soon as the copy is there. To be called after every step; valid until the next
  // call.
  std::span<const StepRecord> records(Wait wait);

 private:
  RecordedWork* recording_of(const BatchShape& shape);
  void give(const BatchShape& shape);
  void receive();

  Kernels& kernels_;
  Bert& model_;
  Optimizer& optimizer_;
  Batches& batches_;
  std::uint64_t seed_;
  bool record_;                                                 // until the backend says that it has nothing to gain
  std::map<BatchShape, std::unique_ptr<RecordedWork>> shapes_;  // that have occurred
  std::int64_t reservations_;                                   // of the model, when they were recorded
  std::unique_ptr<Readback> readback_;
  std::int64_t given_, asked_, received_;  // steps: told to the device, copied or being copied, handed on
  std::vector<StepRecord> records_;
};

}  // namespace ember
