// AdamW over all weights of a model. The word embedding is updated lazily: a row that a batch does not touch moves by a
// function of the step number alone, so it is brought up to date only when it is next read. Every update that a row
// missed is replayed in order with the arithmetic of a dense update, so the bits are those of dense AdamW.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/bert.h"
#include "model/weights.h"
#include "train/schedule.h"

namespace ember {

class Optimizer {
 public:
  // `weights` and `kernels` must outlive the object. At most total_steps updates, with the rates of `schedule`.
  Optimizer(const BertConfig& config, BertWeights& weights, Kernels& kernels, const AdamWOptions& options,
            const Schedule& schedule, std::int64_t total_steps);

  // Before a forward: brings the rows of the word embedding that `batch` reads up to date, and begins with what the
  // last step has left of its update, for which that step's gradients must still be there; forward awaits it.
  void catch_up(const Batch& batch);
  // Before the weights are read by anything else, or the model of the last step goes: brings all of them up to date.
  void catch_up();
  // One update from model.gradients(), which belong to `batch` and to the loss times step_state()->loss_scale. Skipped,
  // with nothing changed but the state, when their norm is not finite. Where `loss` is given, the step leaves a record.
  // Where the backend defers updates, those of the weights that Bert::forward awaits are left to the next step.
  void step(const Bert& model, const Batch& batch, Tensor loss = {});

  // Of the last kRecords steps, on the device: that of step s in place s % kRecords.
  static constexpr std::int32_t kRecords = 128;
  const StepRecord* records() const { return static_cast<const StepRecord*>(records_.data()); }
  // On the device; the same read back, which waits for the step; and set, for a run that goes on: every row of the
  // moments and weights must then be current.
  const StepState* step_state() const { return static_cast<const StepState*>(state_.data()); }
  StepState read_state() const;
  // Of a run that begins.
  StepState first_state() const;
  void resume(const StepState& state);
  // Of the state after a skipped step: whether the loss scale has room below it; if not, the gradient itself is not
  // finite.
  bool can_lower_scale(const StepState& state) const;

  // First and second moments under the names of the weights, for checkpoints; whole after catch_up().
  BertWeights& first_moments() { return first_; }
  BertWeights& second_moments() { return second_; }

 private:
  void upload_schedule(const Schedule& schedule, std::int64_t total_steps);
  void bind(const Bert& model, const Batch& batch);
  void start_updates();
  StepState* state() { return static_cast<StepState*>(state_.data()); }
  const AdamWUpdate* schedule() const { return static_cast<const AdamWUpdate*>(schedule_.data()); }

  Kernels& kernels_;
  const BertConfig& config_;
  AdamWOptions options_;
  LossScaling scaling_;
  BertWeights first_, second_;
  Buffer row_updates_;                      // (V) int32: updates that each row of the word embedding has seen
  Buffer padding_id_;                       // (1) int32
  Buffer state_;                            // StepState
  Buffer before_;                           // StepState of the last step, if a part of its update is left
  Buffer records_;                          // (kRecords) StepRecord
  Buffer schedule_;                         // one AdamWUpdate per update of the run
  std::vector<AdamWParameter> parameters_;  // in the order of BertWeights::list; their gradients are of the last batch
  std::vector<Tensor> gradients_;           // of those
  // Of parameters_, but for the word embedding: what a step updates itself, and the groups that it leaves to the next.
  std::span<const AdamWParameter> prompt_;
  std::vector<std::span<const AdamWParameter>> late_;
};

}  // namespace ember
