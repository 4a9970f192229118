#include "bench/training_step.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <memory>
#include <numeric>

#include "bench/shapes.h"
#include "bench/step_work.h"
#include "model/batches.h"

namespace ember {
namespace {

constexpr std::int64_t kMostSteps = 10'000;  // of the schedule
constexpr std::int64_t kMostBatches = 16;    // of a repetition
constexpr double kLearningRate = 2e-5;

// One step after another on the batches of a data set.
class Steps {
 public:
  Steps(Backend& backend, const BertConfig& config, const BertWeights& weights, Optimizer& optimizer,
        const Dataset& texts, std::int64_t batch_size)
      : backend_(backend),
        config_(config),
        optimizer_(optimizer),
        texts_(texts),
        batch_size_(batch_size),
        model_(config, weights, backend.kernels(), Purpose::training, limits()),
        batches_(backend.kernels(), config, texts) {
    batches_.reserve(limits());
  }

  std::int64_t batches() const { return texts_.size() / batch_size_; }

  // Back to the first batch and to a run's first update, of which the schedule has a limited number.
  void begin() {
    batches_.rewind();
    optimizer_.catch_up();
    optimizer_.resume(optimizer_.first_state());
  }

  // From here on steps are recorded, if the backend can: each shape at its next step, since it must have been given
  // once.
  void record() { records_ = true; }
  bool recorded() const { return !recordings_.empty(); }

  // The next batch's step by its phases; `step` is their sum.
  PhaseSeconds by_phases() {
    const BatchShape shape = next_shape();
    const Recordings* recordings = recordings_of(shape);
    backend_.occupy();
    backend_.mark();
    for (std::size_t phase = 0; phase < kPhases; ++phase) {
      if (recordings != nullptr)
        recordings->phases[phase]->run();
      else
        give_alone(shape, phase);
      backend_.mark();
    }
    batches_.advance(batch_size_);
    const std::vector<double> laps = backend_.laps();
    return {laps[2], laps[3], laps[1] + laps[4], std::accumulate(laps.begin(), laps.end(), 0.0)};
  }

  // The seconds of the next batch's recorded step.
  double whole() {
    const Recordings* recordings = recordings_of(next_shape());
    backend_.occupy();
    backend_.mark();
    recordings->whole->run();
    backend_.mark();
    batches_.advance(batch_size_);
    return backend_.laps()[0];
  }

 private:
  static constexpr std::size_t kPhases = 5;
  struct Recordings {
    std::array<std::unique_ptr<RecordedWork>, kPhases> phases;
    std::unique_ptr<RecordedWork> whole;
  };

  // Of all batches as the backend shapes them.
  BatchLimits limits() const {
    BatchLimits limits{0, 0};
    for (std::int64_t i = 0; i < batches(); ++i) {
      const BatchShape exact = exact_shape(texts_, {}, i * batch_size_, batch_size_);
      const BatchShape shape = backend_.kernels().batch_shape(exact, config_.positions);
      limits.tokens = std::max(limits.tokens, shape.tokens);
      limits.sequences = std::max(limits.sequences, shape.sequences);
    }
    return limits;
  }
  BatchShape next_shape() const { return batches_.shape(batches_.exact_shape(batch_size_)); }

  void give(const BatchShape& shape, std::size_t phase) {
    switch (phase) {
      case 0:
        batch_ = batches_.gather(shape);
        break;
      case 1:
        optimizer_.catch_up(batch_);
        break;
      case 2:
        model_.forward(batch_, Randomness{42, 0, &optimizer_.step_state()->steps});
        loss_ = model_.loss(batch_, optimizer_.step_state()).loss;
        break;
      case 3:
        model_.backward(batch_);
        break;
      default:
        optimizer_.step(model_, batch_, loss_);
    }
  }

  // With no work left beside it for the next phase, in a recording neither.
  void give_alone(const BatchShape& shape, std::size_t phase) {
    give(shape, phase);
    backend_.kernels().finish_updates();
  }

  const Recordings* recordings_of(const BatchShape& shape) {
    if (!records_) return nullptr;
    const auto [known, is_new] = recordings_.try_emplace(shape);
    if (!is_new) return &known->second;
    Kernels& kernels = backend_.kernels();
    for (std::size_t phase = 0; phase < kPhases; ++phase)
      known->second.phases[phase] = kernels.record([&] { give_alone(shape, phase); });
    known->second.whole = kernels.record([&] {
      for (std::size_t phase = 0; phase < kPhases; ++phase) give(shape, phase);
    });
    if (known->second.whole != nullptr) return &known->second;
    recordings_.clear();
    records_ = false;
    return nullptr;
  }

  Backend& backend_;
  const BertConfig& config_;
  Optimizer& optimizer_;
  const Dataset& texts_;
  std::int64_t batch_size_;
  Bert model_;
  Batches batches_;
  Batch batch_;  // of the step at hand
  Tensor loss_;
  bool records_ = false;
  std::map<BatchShape, Recordings> recordings_;
};

PhaseSeconds mean(const std::vector<PhaseSeconds>& steps) {
  PhaseSeconds sum;
  for (const PhaseSeconds& step : steps) {
    sum.forward += step.forward, sum.backward += step.backward;
    sum.optimizer += step.optimizer, sum.step += step.step;
  }
  const auto count = static_cast<double>(steps.size());
  return {sum.forward / count, sum.backward / count, sum.optimizer / count, sum.step / count};
}

// The mean of `count` steps from the first batch on; recorded ones are given twice, by their phases and whole.
PhaseSeconds repetition(Steps& steps, std::int64_t count) {
  std::vector<PhaseSeconds> all;
  steps.begin();
  for (std::int64_t i = 0; i < count; ++i) all.push_back(steps.by_phases());
  if (!steps.recorded()) return mean(all);
  steps.begin();
  for (PhaseSeconds& step : all) step.step = steps.whole();
  return mean(all);
}

}  // namespace

TrainingStep::TrainingStep(Backend& backend, const BertConfig& config, const Peaks& peaks)
    : backend_(backend),
      config_(config),
      peaks_(peaks),
      weights_(config, backend.kernels()),
      optimizer_(config, weights_, backend.kernels(), {}, Schedule(kLearningRate, 0, kMostSteps), kMostSteps) {
  // The numbers do not matter to the time, as long as they are a model's.
  draw_all(weights_, config.initializer_range, 42, backend.kernels());
}

StepResult TrainingStep::measure(const Dataset& texts, std::int64_t batch_size, StepBudget budget) {
  backend_.reset_peak_memory();
  Steps steps(backend_, config_, weights_, optimizer_, texts, batch_size);
  if (steps.batches() < 1) throw std::logic_error("fewer texts than a batch has");
  const auto most = std::min(steps.batches(), kMostBatches);
  // Untimed: pages, buffers of libraries and, on CUDA, the choice of algorithms.
  steps.begin();
  double seconds = steps.by_phases().step;
  for (std::int64_t i = 1; i < most; ++i) seconds = std::min(seconds, steps.by_phases().step);
  steps.begin();
  const std::int64_t before = backend_.launches().value_or(0);
  seconds = std::min(seconds, steps.by_phases().step);
  StepResult result;
  result.batch_size = batch_size;
  if (backend_.launches()) result.launches = *backend_.launches() - before;
  const std::int64_t count =
      std::clamp(static_cast<std::int64_t>(std::ceil(budget.seconds / seconds)), std::int64_t{1}, most);
  const StepTypes types{backend_.kernels().activation_type(), backend_.kernels().product_type()};
  for (std::int64_t i = 0; i < count; ++i) {
    const BatchSize size = size_of_batch(texts, i * batch_size, batch_size);
    result.tokens += size.tokens;
    result.floor += floor_seconds(step_work(config_, size, types), peaks_);
  }
  result.tokens /= static_cast<double>(count);
  result.floor /= static_cast<double>(count);
  if (budget.record && records()) {
    // Untimed: a recording's first launch also brings it to the device.
    steps.record();
    repetition(steps, count);
  }
  for (int r = 0; r < budget.repetitions; ++r) result.repetitions.push_back(repetition(steps, count));
  optimizer_.catch_up();  // the model of `steps` goes
  result.recorded = steps.recorded();
  result.peak_memory = backend_.peak_memory();
  return result;
}

}  // namespace ember
