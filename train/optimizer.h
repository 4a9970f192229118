// AdamW over all weights of a model. The word embedding is updated lazily: a row that a batch does not touch moves by a
// function of the step number alone, so it is brought up to date only when it is next read. Every update that a row
// missed is replayed in order with the arithmetic of a dense update, so the bits are those of dense AdamW.
#pragma once

#include <cstdint>
#include <vector>

#include "model/bert.h"
#include "model/weights.h"
#include "train/schedule.h"

namespace ember {

class Optimizer {
 public:
  // `weights` and `kernels` must outlive the object. After `expected_steps` steps, or 2^20, a step may allocate.
  Optimizer(const BertConfig& config, BertWeights& weights, Kernels& kernels, const AdamWOptions& options,
            std::int64_t expected_steps);

  // Before a forward: brings the rows of the word embedding that `batch` reads up to date.
  void catch_up(const Batch& batch);
  // Before the weights are read by anything else: brings every row up to date.
  void catch_up();
  // One update from model.gradients(), which belong to `batch`. Returns the gradient's norm before clipping. When that
  // is not finite nothing has changed.
  float step(const Bert& model, const Batch& batch, double learning_rate);

  std::int64_t steps() const { return static_cast<std::int64_t>(history_.size()); }

  // First and second moments under the names of the weights, for checkpoints; whole after catch_up().
  BertWeights& first_moments() { return first_; }
  BertWeights& second_moments() { return second_; }
  // Goes on after `steps` steps whose moments have been put into first_moments() and second_moments().
  void resume_after(std::int64_t steps);

 private:
  void bind(const Bert& model, const Batch& batch);
  AdamWTensors tensors(std::size_t i) const;

  const BertConfig& config_;
  BertWeights& weights_;
  Kernels& kernels_;
  AdamWOptions options_;
  BertWeights first_, second_;
  Buffer row_updates_;                       // (V) int32: updates that each row of the word embedding has seen
  Buffer padding_id_;                        // (1) int32
  Buffer norm_;                              // (1) f32
  std::vector<AdamWUpdate> history_;         // of the word embedding, one per step
  std::vector<Tensor> gradients_, working_;  // views, in the order of weights_.list
};

}  // namespace ember
