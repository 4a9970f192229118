#include "train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>

#include "kernels/step_state.h"
#include "model/batches.h"
#include "model/bert.h"
#include "runtime/ceil_div.h"
#include "train/evaluation.h"
#include "train/fingerprint.h"
#include "train/inputs.h"
#include "train/metrics.h"
#include "train/metrics_log.h"
#include "train/output_folder.h"
#include "train/saver.h"
#include "train/speed.h"
#include "train/step_runner.h"

namespace ember {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::int64_t kLogEvery = 100;                     // steps
constexpr std::int64_t kEvaluationTokens = 1024;            // per batch
constexpr std::int64_t kMostHalvings = 2 * kMostDoublings;  // of the loss scale, from its largest to its smallest

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// No batch of `batch_size` texts in any order is larger, and none of the evaluation.
BatchLimits limits_for(const TrainingInputs& inputs, const Kernels& kernels, std::int64_t batch_size) {
  std::vector<std::int64_t> lengths(static_cast<std::size_t>(inputs.train.size()));
  for (std::int64_t i = 0; i < inputs.train.size(); ++i) lengths[static_cast<std::size_t>(i)] = inputs.train.length(i);
  std::sort(lengths.rbegin(), lengths.rend());
  const std::int64_t count = std::min(batch_size, inputs.train.size());
  const BertConfig& config = inputs.model.config;
  const BatchShape largest = kernels.batch_shape(
      {count, count, std::accumulate(lengths.begin(), lengths.begin() + count, std::int64_t{0}), lengths.front()},
      config.positions);
  const BatchLimits dev = evaluation_limits(kernels, config, inputs.dev, kEvaluationTokens);
  return {std::max(largest.tokens, dev.tokens), std::max(largest.sequences, dev.sequences)};
}

double value_of(const DevResult& result, Metric metric) {
  switch (metric) {
    case Metric::f1_micro:
      return result.f1_micro;
    case Metric::f1_macro:
      return result.f1_macro;
    case Metric::loss:
      return result.loss;
  }
  throw std::logic_error("no such metric");
}

// Of two with the same F1 the one with less loss is better: as long as no probability reaches the threshold, each F1 is
// 0, and the model still learns.
bool better(const DevResult& now, const DevResult& best, Metric metric) {
  if (best.step == 0) return true;
  const double value = value_of(now, metric), other = value_of(best, metric);
  return metric == Metric::loss || value == other ? now.loss < best.loss : value > other;
}

std::int64_t steps_of_epoch(std::int64_t rows, const Recipe& recipe) {
  return ceil_div(rows, recipe.batch_size);
}

std::int64_t steps_of_run(std::int64_t rows, const TrainOptions& options) {
  const std::int64_t all = options.recipe.epochs * steps_of_epoch(rows, options.recipe);
  const std::int64_t steps = options.max_steps > 0 ? std::min(all, options.max_steps) : all;
  check(steps <= std::numeric_limits<std::int32_t>::max(), "--epochs {}: {} steps are more than 2^31",
        options.recipe.epochs, steps);
  return steps;
}

// The first line of metrics.jsonl.
std::string start_of_log(const RunIdentity& identity) {
  MetricsEvent event = {{"event", "start"}};
  event.update(to_json(identity));
  return MetricsLog::line(event);
}

class Run {
 public:
  Run(const TrainOptions& options, std::int64_t steps, Kernels& kernels, TrainingInputs& inputs, OutputFolder& out,
      const RunIdentity& identity, Progress& progress)
      : options_(options),
        recipe_(options.recipe),
        kernels_(kernels),
        inputs_(inputs),
        out_(out),
        identity_(identity),
        progress_(progress),
        steps_per_epoch_(steps_of_epoch(inputs.train.size(), recipe_)),
        total_steps_(steps),
        schedule_(recipe_.learning_rate, recipe_.warmup_ratio, total_steps_),
        optimizer_(inputs.model.config, inputs.model.weights, kernels,
                   {.weight_decay = recipe_.weight_decay, .dense = options.optimizer == "dense"}, schedule_,
                   total_steps_),
        state_(resume()),
        limits_(limits_for(inputs, kernels, recipe_.batch_size)),
        model_(inputs.model.config, inputs.model.weights, kernels, Purpose::training, limits_),
        batches_(kernels, inputs.model.config, inputs.train),
        runner_(kernels, model_, optimizer_, batches_, recipe_.seed, options.graph, state_.step),
        saver_(inputs.model.config, kernels) {
    batches_.reserve(limits_);
    if (!out.checkpoint()) return;
    take_folder();
    // The run may have saved a better one since, which this one need not find again where its last bits differ.
    if (restore_best(*out.checkpoint(), options_.out, inputs.model.tokenizer))
      progress.note(fmt::format("{} is the best model so far again, that of step {}",
                                (options_.out / kWeightsFile).string(), state_.best.step));
    step_state_ = out.checkpoint()->step_state;
    update_mean_loss();
  }

  TrainOutcome run(const std::function<int()>& stop_requested);

 private:
  TrainingState resume();
  void take_folder();
  bool finished() const;
  bool at_epoch_end() const { return state_.position == 0; }
  bool due(Every every) const;
  double epochs(std::int64_t step) const { return static_cast<double>(step) / static_cast<double>(steps_per_epoch_); }

  void step();
  void watch(StepRunner::Wait wait);
  void take_record(const StepRecord& record);
  void update_mean_loss();
  void require_finite(bool finite, std::int64_t step, const char* what) const;
  double learning_rate() const;  // of the last step whose record is there
  void report();
  void log_training();
  void evaluate_on_dev();
  void save_best();
  void checkpoint();
  void finish();

  const TrainOptions& options_;
  const Recipe& recipe_;
  Kernels& kernels_;
  TrainingInputs& inputs_;
  OutputFolder& out_;
  const RunIdentity& identity_;
  Progress& progress_;
  const std::int64_t steps_per_epoch_, total_steps_;
  const Schedule schedule_;
  Optimizer optimizer_;
  TrainingState state_;
  const BatchLimits limits_;
  Bert model_;
  Batches batches_;
  StepRunner runner_;
  Saver saver_;
  std::optional<MetricsLog> log_;

  std::int64_t order_epoch_ = -1;  // that batches_ takes its rows from
  StepState step_state_;           // after the last step whose record is there
  std::int64_t skipped_in_a_row_ = 0;
  double mean_loss_ = 0;  // since the last "train" event, for the display
  SpeedMeter speed_;
  Speed logged_;  // of the last "train" event, for the display until there are steps after it
  std::int64_t saved_step_ = -1;
};

TrainingState Run::resume() {
  if (!out_.checkpoint()) return {};
  const TrainingState& state = out_.checkpoint()->state;
  check(state.epoch == state.step / steps_per_epoch_ &&
            state.position == state.step % steps_per_epoch_ * recipe_.batch_size && state.step <= total_steps_,
        "{}: is damaged: step {} of {} is not row {} of epoch {}; without that folder --resume takes the one before",
        (out_.checkpoint()->path / "state.json").string(), state.step, total_steps_, state.position, state.epoch);
  const bool same = restore(*out_.checkpoint(), inputs_.model.config, inputs_.model.weights, optimizer_, kernels_);
  if (!same && out_.checkpoint()->identity.device == identity_.device)  // of another note_resumption has told
    progress_.note("which was made with another version of cuBLASLt: the result may differ in its last bits");
  return state;
}

// Of a run that begins not before its first step is done, for which a device's memory may not do, so that a run that
// cannot be leaves the folder as it was.
void Run::take_folder() {
  out_.clear();
  log_.emplace(out_.metrics(), out_.checkpoint() ? out_.checkpoint()->metrics : start_of_log(identity_));
}

bool Run::finished() const {
  const bool patience_spent = options_.early_stopping > 0 && state_.evaluations_since_best >= options_.early_stopping;
  return state_.step >= total_steps_ || patience_spent;
}

bool Run::due(Every every) const {
  if (finished()) return true;
  return every.steps == 0 ? at_epoch_end() : state_.step % every.steps == 0;
}

// ---- The way of a step ----------------------------------------------------------------------------------------------

TrainOutcome Run::run(const std::function<int()>& stop_requested) {
  while (!finished()) {
    step();
    if (due(options_.evaluate)) evaluate_on_dev();
    if (due(options_.save)) checkpoint();
    saver_.check();
    if (const int signal = stop_requested(); signal != 0 && !finished()) {
      if (saved_step_ != state_.step) checkpoint();
      saver_.finish();
      return {state_, signal, checkpoint_path(options_.out, state_.step)};
    }
  }
  finish();
  return {state_, 0, checkpoint_path(options_.out, state_.step)};
}

void Run::step() {
  const Clock::time_point start = Clock::now();
  if (order_epoch_ != state_.epoch) {
    batches_.reorder(permutation(inputs_.train.size(), recipe_.seed, static_cast<std::uint32_t>(state_.epoch)),
                     state_.position);
    order_epoch_ = state_.epoch;
  }
  const std::int64_t rows = std::min(recipe_.batch_size, batches_.left());
  speed_.give(rows, runner_.step(rows).tokens);
  ++state_.step;
  state_.position += rows;
  if (state_.position == inputs_.train.size()) ++state_.epoch, state_.position = 0;
  speed_.spend(seconds_since(start));
  // What is shown last is of all steps; the evaluation that follows would wait as long.
  watch(state_.step == total_steps_ || !log_ ? StepRunner::Wait::yes : StepRunner::Wait::no);
  if (!log_) take_folder();
  report();
}

// Takes account of the steps whose records are there, or of all.
void Run::watch(StepRunner::Wait wait) {
  const Clock::time_point start = Clock::now();
  const std::span<const StepRecord> records = runner_.records(wait);
  speed_.spend(seconds_since(start));
  speed_.arrive(std::ssize(records));
  for (const StepRecord& record : records) take_record(record);
}

void Run::take_record(const StepRecord& record) {
  speed_.finish();
  step_state_ = record.state;
  skipped_in_a_row_ = step_state_.finite != 0 ? 0 : skipped_in_a_row_ + 1;
  const bool may_recover = optimizer_.can_lower_scale(step_state_) && skipped_in_a_row_ < kMostHalvings;
  require_finite(step_state_.finite != 0 || may_recover, step_state_.steps, "the gradient");
  if (std::isfinite(record.loss)) {  // a skipped step's may not be
    state_.loss_sum += static_cast<double>(record.loss);
    ++state_.loss_steps;
    update_mean_loss();
  }
  if (step_state_.steps % kLogEvery == 0) log_training();
}

void Run::update_mean_loss() {
  if (state_.loss_steps > 0) mean_loss_ = state_.loss_sum / static_cast<double>(state_.loss_steps);
}

void Run::require_finite(bool finite, std::int64_t step, const char* what) const {
  if (finite) return;
  const bool fp16 = kernels_.activation_type() == DType::f16;
  // Smaller steps would change nothing.
  check(step_state_.updates > 0, "step {}: {} is not finite with the weights of --model as they are, in {}", step, what,
        fp16 ? "fp16 (up to 65504); --device cpu --overwrite trains in fp32" : "fp32");
  fail(
      "training diverged at step {}: {} is not finite; lower --lr (now {}) or --weight-decay (now {}){} and start "
      "afresh with --overwrite",
      step, what, recipe_.learning_rate, recipe_.weight_decay, fp16 ? ", or train in fp32 (--device cpu)," : "");
}

double Run::learning_rate() const {
  return schedule_.at(std::max(step_state_.updates - step_state_.finite, 0));
}

// ---- What is told and kept ------------------------------------------------------------------------------------------

void Run::report() {
  const Speed& speed = speed_.window().steps > 0 ? speed_.window() : logged_;
  const double left = static_cast<double>(total_steps_ - state_.step) * speed_.seconds_a_step();
  progress_.update({.epoch = (state_.step - 1) / steps_per_epoch_ + 1,
                    .epochs = recipe_.epochs,
                    .step = state_.step,
                    .steps = total_steps_,
                    .loss = mean_loss_,
                    .learning_rate = learning_rate(),
                    .examples_per_second = speed.per_second(speed.examples),
                    .seconds_left = left});
}

// Of the steps up to the last whose record is there.
void Run::log_training() {
  logged_ = speed_.take();
  log_->append({{"event", "train"},
                {"step", step_state_.steps},
                {"epoch", epochs(step_state_.steps)},
                {"loss", state_.loss_steps > 0 ? MetricsEvent(mean_loss_) : MetricsEvent(nullptr)},
                {"lr", learning_rate()},
                {"grad_norm", step_state_.gradient_norm},  // null where it is not finite
                {"loss_scale", step_state_.loss_scale},
                {"skipped_steps", step_state_.skipped},
                {"examples_per_second", logged_.per_second(logged_.examples)},
                {"tokens_per_second", logged_.per_second(logged_.tokens)}});
  state_.loss_sum = 0;
  state_.loss_steps = 0;
}

void Run::evaluate_on_dev() {
  watch(StepRunner::Wait::yes);
  if (state_.loss_steps > 0) log_training();
  optimizer_.catch_up();
  const Evaluation scores = evaluate(model_, kernels_, inputs_.model.config, inputs_.dev, kEvaluationTokens);
  require_finite(std::isfinite(scores.loss), state_.step, "the loss on dev");
  const Metrics metrics = measure(scores.probabilities, scores.targets, inputs_.labels.size(), recipe_.threshold);
  const DevResult result{state_.step,      epochs(state_.step), scores.loss,
                         metrics.micro.f1, metrics.macro.f1,    metrics.subset_accuracy};
  log_->append({{"event", "eval"},
                {"split", "dev"},
                {"step", result.step},
                {"epoch", result.epoch},
                {"loss", result.loss},
                {"f1_micro", result.f1_micro},
                {"f1_macro", result.f1_macro},
                {"subset_accuracy", result.subset_accuracy},
                {"threshold", recipe_.threshold}});
  const bool is_best = better(result, state_.best, recipe_.metric);
  state_.evaluations_since_best = is_best ? 0 : state_.evaluations_since_best + 1;
  if (is_best) {
    state_.best = result;
    save_best();
  }
  progress_.note(
      fmt::format("epoch {:.2f}  step {}  dev: loss {:.5f}  f1_micro {:.4f}  f1_macro {:.4f}  subset accuracy {:.4f}{}",
                  result.epoch, result.step, result.loss, result.f1_micro, result.f1_macro, result.subset_accuracy,
                  is_best ? "  (the best so far)" : ""));
}

void Run::save_best() {
  const BertWeights* const sets[] = {&inputs_.model.weights};
  saver_.save(sets, [this](Saver::Sets saved, Kernels& kernels) {
    save_hugging_face(options_.out, inputs_.model.config, *saved[0], kernels, inputs_.model.tokenizer);
  });
}

void Run::checkpoint() {
  watch(StepRunner::Wait::yes);
  optimizer_.catch_up();
  const MetricsEvent event = {{"event", "checkpoint"},
                              {"step", state_.step},
                              {"epoch", epochs(state_.step)},
                              {"path", checkpoint_path({}, state_.step).string()}};
  // The checkpoint's own copy tells of it already: whoever reads it knows that it was written. This run's tells of it
  // when its writing begins; if that fails, the run ends.
  const std::string metrics = log_->content() + MetricsLog::line(event);
  const BertWeights* const sets[] = {&inputs_.model.weights, &optimizer_.first_moments(), &optimizer_.second_moments()};
  const auto write = [this, metrics, state = state_, step_state = optimizer_.read_state(),
                      choices = kernels_.choices()](Saver::Sets saved, Kernels& kernels) {
    save_checkpoint(options_.out,
                    {state, identity_, metrics, inputs_.model.config, *saved[0], *saved[1], *saved[2], kernels,
                     step_state, choices, inputs_.model.tokenizer},
                    options_.keep);
  };
  saver_.save(sets, write);
  log_->append(event);
  saved_step_ = state_.step;
}

void Run::finish() {
  watch(StepRunner::Wait::yes);
  saver_.finish();
  // A few are usual: the loss scale is found by what is too much.
  if (const std::int64_t skipped = step_state_.skipped; skipped > kMostHalvings && skipped > state_.step / 100)
    progress_.note(
        fmt::format("{} of {} steps were skipped, since a number of theirs was beyond fp16 (up to 65504); "
                    "--device cpu trains in fp32",
                    skipped, state_.step));
  log_->append({{"event", "end"},
                {"step", state_.step},
                {"epoch", epochs(state_.step)},
                {"stopped_early", state_.step < total_steps_},
                {"best_step", state_.best.step},
                {"best_epoch", state_.best.epoch},
                {"best_" + to_string(recipe_.metric), value_of(state_.best, recipe_.metric)}});
}

RunIdentity identify(const TrainOptions& options, const TrainingInputs& inputs, Kernels& kernels) {
  return {identity(options, kernels), data_fingerprint(inputs.model.tokenizer, inputs.labels, inputs.train, inputs.dev),
          model_fingerprint(inputs.model.config, inputs.model.weights, kernels, options.threads),
          kernels.device_name()};
}

void require_resumable(const TrainOptions& options, const OutputFolder& out, const RunIdentity& identity) {
  if (!out.checkpoint()) {
    if (options.resume) require_restartable(out.metrics(), identity);
    return;
  }
  require_same_run(out.checkpoint()->identity, out.checkpoint()->path, identity);
  check(out.checkpoint()->state.best.step == 0 || holds_best(*out.checkpoint()) || out.holds_model(),
        "--resume: {}, the best model so far (step {}), is gone; --overwrite starts afresh",
        (out.path() / kWeightsFile).string(), out.checkpoint()->state.best.step);
}

void note_resumption(const Checkpoint& checkpoint, const RunIdentity& now, Progress& progress) {
  progress.note(fmt::format("resuming from {}", checkpoint.path.string()));
  const std::string& before = checkpoint.identity.device;
  if (!before.empty() && before != now.device)
    progress.note(fmt::format("which was made on {}: the result may differ in its last bits", before));
}

}  // namespace

TrainOutcome train(const TrainOptions& options, Progress::Style style, const std::function<int()>& stop_requested) {
  validate(options);
  std::string note;
  const std::unique_ptr<Kernels> kernels = make_kernels(options, note);
  if (!note.empty()) Progress(style).note(note);
  return train(options, *kernels, style, stop_requested);
}

TrainOutcome train(const TrainOptions& options, Kernels& kernels, Progress::Style style,
                   const std::function<int()>& stop_requested) {
  validate(options);
  OutputFolder out(options);
  TrainingInputs inputs = load_inputs(options, kernels);
  const RunIdentity identity = identify(options, inputs, kernels);
  require_resumable(options, out, identity);
  const std::int64_t steps = steps_of_run(inputs.train.size(), options);
  if (const int signal = stop_requested(); signal != 0) return {{}, signal, {}};
  out.prepare();
  Progress progress(style);
  progress.note("on " + kernels.device_name());
  if (options.max_steps > steps)
    progress.note(fmt::format("--epochs {} makes {} step{}: --max-steps {} is never reached", options.recipe.epochs,
                              steps, steps == 1 ? "" : "s", options.max_steps));
  for (const std::string& note : out.notes()) progress.note(note);
  if (!out.checkpoint())
    for (const std::string& note : notes_on(inputs.model.report)) progress.note(note);
  for (const std::string& note : inputs.notes) progress.note(note);
  if (out.checkpoint()) note_resumption(*out.checkpoint(), identity, progress);
  Run run(options, steps, kernels, inputs, out, identity, progress);
  return run.run(stop_requested);
}

}  // namespace ember
