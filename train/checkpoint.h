// Checkpoints: OUT/checkpoints/step-N/, each a whole Hugging Face directory (so `predict` can use it) with
//   optimizer.safetensors  first and second moments of every weight: exp_avg.NAME and exp_avg_sq.NAME
//   state.json             where training stood, and what it must be resumed with
//   choices.txt            Kernels::choices
//   best.safetensors       OUT/model.safetensors of then, the best model so far, where there has been an evaluation
//   metrics.jsonl          the events so far
// Random numbers are functions of the seed and the step (runtime/philox.h), and the learning rate of the number of
// updates, so these numbers are all the state that the generator and the schedule have.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "model/hugging_face.h"
#include "train/optimizer.h"
#include "train/run_identity.h"

namespace ember {

// One evaluation on dev.
struct DevResult {
  std::int64_t step = 0;  // 0: there has been none
  double epoch = 0;
  double loss = 0, f1_micro = 0, f1_macro = 0, subset_accuracy = 0;
  bool operator==(const DevResult&) const = default;
};

// Where training stands after a step.
struct TrainingState {
  std::int64_t step = 0;
  std::int64_t epoch = 0;     // complete ones
  std::int64_t position = 0;  // examples of the next epoch's order that have been used
  DevResult best;
  std::int64_t evaluations_since_best = 0;
  double loss_sum = 0;  // over the steps since the last "train" event
  std::int64_t loss_steps = 0;
  bool operator==(const TrainingState&) const = default;
};

struct Checkpoint {
  std::filesystem::path path;
  BertConfig config;
  TrainingState state;
  StepState step_state;
  std::string choices;  // Kernels::choices
  RunIdentity identity;
  std::string metrics;  // content of metrics.jsonl
};

struct CheckpointContent {
  const TrainingState& state;
  const RunIdentity& identity;
  const std::string& metrics;
  const BertConfig& config;
  const BertWeights &weights, &first_moments, &second_moments;
  Kernels& kernels;  // in whose memory these lie
  const StepState& step_state;
  const std::string& choices;
  const TokenizerSource& tokenizer;
};

inline constexpr const char* kCheckpoints = "checkpoints";
inline constexpr const char* kMetricsFile = "metrics.jsonl";
// OUT/checkpoints/step-N.
std::filesystem::path checkpoint_path(const std::filesystem::path& out, std::int64_t step);

// Writes the checkpoint of content.state.step, in the place of a damaged one: it appears whole or not at all. Then
// removes those of later steps, which newest_checkpoint() passed over, and of the others all but the newest `keep`.
// Error, and nothing written or removed but that damaged one, where a weight is not finite, as save_hugging_face has
// it.
void save_checkpoint(const std::filesystem::path& out, const CheckpointContent& content, std::int64_t keep);

// Removes of the checkpoints of step `newest` and before all but the newest `keep`: a run that was killed between a
// checkpoint's writing and the removal of the oldest leaves one too many. Error naming what cannot be removed.
void remove_old_checkpoints(const std::filesystem::path& out, std::int64_t newest, std::int64_t keep);

// The newest whole checkpoint; nothing when there is no checkpoint at all. Says in `notes` which damaged ones were
// passed over, by a missing or malformed file or a state whose numbers cannot be; Error when there are only such, or
// when the folder or a file that is there cannot be read.
std::optional<Checkpoint> newest_checkpoint(const std::filesystem::path& out, std::vector<std::string>& notes);

// Puts a checkpoint's weights, moments, state of the steps and choices back. Error naming the file and the tensor that
// does not fit, or the file where the configuration is another or the choices are not of `kernels`. False where these
// are of another device or version of a library.
bool restore(const Checkpoint& checkpoint, const BertConfig& config, BertWeights& weights, Optimizer& optimizer,
             Kernels& kernels);

// Makes OUT the best model at the time of the checkpoint, with `tokenizer`; whether there was another, or none. A
// checkpoint without one leaves it alone.
bool restore_best(const Checkpoint& checkpoint, const std::filesystem::path& out, const TokenizerSource& tokenizer);
// Whether the checkpoint has one.
bool holds_best(const Checkpoint& checkpoint);

// Removes all checkpoints of `out`. Error naming what cannot be removed.
void remove_checkpoints(const std::filesystem::path& out);

// Removes what killed runs left half written in `out` and its checkpoints.
void remove_leftovers(const std::filesystem::path& out);

}  // namespace ember
