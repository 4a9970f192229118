#include "bench/training_step.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "bench/shapes.h"
#include "bench/step_work.h"
#include "model/batches.h"

namespace ember {
namespace {

constexpr std::int64_t kMostSteps = 10'000;  // of the schedule
constexpr std::int64_t kMostBatches = 16;    // of a repetition
constexpr double kLearningRate = 2e-5;

// The numbers do not matter to the time, as long as they are a model's.
void draw_all(const BertConfig& config, const BertWeights& weights, Kernels& kernels) {
  std::vector<float> values;
  for (std::size_t i = 0; i < weights.list.size(); ++i) {
    const Parameter& parameter = weights.list[i];
    values.resize(static_cast<std::size_t>(parameter.value.size()));
    draw(parameter, config.initializer_range, 42, static_cast<std::uint32_t>(i), values.data());
    kernels.upload(parameter.value.data, values.data(), values.size() * sizeof(float));
  }
}

// One step after another on the batches of a data set.
class Steps {
 public:
  Steps(Backend& backend, const BertConfig& config, const BertWeights& weights, Optimizer& optimizer,
        const Dataset& texts, std::int64_t batch_size)
      : backend_(backend),
        optimizer_(optimizer),
        texts_(texts),
        batch_size_(batch_size),
        model_(config, weights, backend.kernels(), Purpose::training, limits()),
        batches_(backend.kernels(), config, texts) {}

  std::int64_t batches() const { return texts_.size() / batch_size_; }
  std::int64_t tokens(std::int64_t batch) const {
    return texts_.offsets[static_cast<std::size_t>((batch + 1) * batch_size_)] -
           texts_.offsets[static_cast<std::size_t>(batch * batch_size_)];
  }

  PhaseSeconds step(std::int64_t number) {
    if (number == 0) batches_.rewind();
    backend_.mark();
    const Batch batch = batches_.next(batch_size_);
    backend_.mark();
    optimizer_.catch_up(batch);
    backend_.mark();
    model_.forward(batch, Randomness{42, static_cast<std::uint32_t>(number)});
    const Bert::Loss loss = model_.loss(batch, optimizer_.step_state());
    backend_.mark();
    model_.backward(batch);
    backend_.mark();
    optimizer_.step(model_, batch, loss.loss);
    backend_.mark();
    float value = 0;
    optimizer_.read_state();
    backend_.kernels().download(&value, loss.loss.data, sizeof value);
    backend_.mark();
    const std::vector<double> laps = backend_.laps();
    return {laps[2], laps[3], laps[1] + laps[4], std::accumulate(laps.begin(), laps.end(), 0.0)};
  }

 private:
  BatchLimits limits() const {
    BatchLimits limits{0, batch_size_};
    for (std::int64_t i = 0; i < batches(); ++i) limits.tokens = std::max(limits.tokens, tokens(i));
    return limits;
  }

  Backend& backend_;
  Optimizer& optimizer_;
  const Dataset& texts_;
  std::int64_t batch_size_;
  Bert model_;
  Batches batches_;
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

}  // namespace

TrainingStep::TrainingStep(Backend& backend, const BertConfig& config, const Peaks& peaks)
    : backend_(backend),
      config_(config),
      peaks_(peaks),
      weights_(config, backend.kernels()),
      optimizer_(config, weights_, backend.kernels(), {}, Schedule(kLearningRate, 0, kMostSteps), kMostSteps) {
  draw_all(config, weights_, backend.kernels());
}

StepResult TrainingStep::measure(const Dataset& texts, std::int64_t batch_size, StepBudget budget) {
  backend_.reset_peak_memory();
  Steps steps(backend_, config_, weights_, optimizer_, texts, batch_size);
  if (steps.batches() < 1) throw std::logic_error("fewer texts than a batch has");
  // Untimed: pages, buffers of libraries and, on CUDA, the choice of algorithms.
  double seconds = steps.step(0).step;
  const std::int64_t before = backend_.launches().value_or(0);
  seconds = std::min(seconds, steps.step(0).step);
  StepResult result;
  result.batch_size = batch_size;
  if (backend_.launches()) result.launches = *backend_.launches() - before;
  const std::int64_t most = std::min(steps.batches(), kMostBatches);
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
  for (int r = 0; r < budget.repetitions; ++r) {
    std::vector<PhaseSeconds> all;
    for (std::int64_t i = 0; i < count; ++i) all.push_back(steps.step(i));
    result.repetitions.push_back(mean(all));
  }
  result.peak_memory = backend_.peak_memory();
  return result;
}

}  // namespace ember
