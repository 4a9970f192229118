#include "train/metrics.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <stdexcept>

#include "runtime/error.h"

namespace ember {
namespace {

struct Counts {
  std::int64_t hits = 0;       // predicted and true
  std::int64_t predicted = 0;  // right or wrong
  std::int64_t support = 0;    // true
};

double ratio(double part, double whole) {
  return whole == 0 ? 0 : part / whole;
}

PrecisionRecallF1 score(const Counts& counts) {
  const auto hits = static_cast<double>(counts.hits), predicted = static_cast<double>(counts.predicted),
             support = static_cast<double>(counts.support);
  return {ratio(hits, predicted), ratio(hits, support), ratio(2 * hits, predicted + support)};
}

void add(PrecisionRecallF1& sum, const PrecisionRecallF1& term, double weight) {
  sum.precision += weight * term.precision;
  sum.recall += weight * term.recall;
  sum.f1 += weight * term.f1;
}

// Once, at the end, so that a mean of ones is one.
void divide(PrecisionRecallF1& sum, double by) {
  sum = {ratio(sum.precision, by), ratio(sum.recall, by), ratio(sum.f1, by)};
}

void check_shapes(std::span<const float> probabilities, std::span<const float> targets, std::int64_t label_count) {
  const auto width = static_cast<std::size_t>(std::max<std::int64_t>(label_count, 1));
  if (label_count < 1 || probabilities.size() != targets.size() || probabilities.size() % width != 0)
    throw std::logic_error("metrics: probabilities and targets must both be rows x labels");
  check(!probabilities.empty(), "there are no rows to measure");
}

void check_probability(float probability, std::size_t place, std::size_t width) {
  check(probability >= 0 && probability <= 1, "row {}, label {}: the model's score is {}, not a probability",
        place / width, place % width, probability);
}

// Counts every label and returns the number of rows whose whole label set is right.
std::int64_t count(std::span<const float> probabilities, std::span<const float> targets, float threshold,
                   std::vector<Counts>& labels) {
  std::int64_t right_rows = 0;
  for (std::size_t begin = 0; begin < probabilities.size(); begin += labels.size()) {
    bool right = true;
    for (std::size_t k = 0; k < labels.size(); ++k) {
      const float probability = probabilities[begin + k];
      check_probability(probability, begin + k, labels.size());
      const bool predicted = probability >= threshold, actual = targets[begin + k] != 0;
      labels[k].hits += predicted && actual;
      labels[k].predicted += predicted;
      labels[k].support += actual;
      right = right && predicted == actual;
    }
    right_rows += right;
  }
  return right_rows;
}

}  // namespace

Metrics measure(std::span<const float> probabilities, std::span<const float> targets, std::int64_t label_count,
                double threshold) {
  check(threshold >= 0 && threshold <= 1, "a threshold of {}: a number from 0 to 1 was expected", threshold);
  check_shapes(probabilities, targets, label_count);
  const auto width = static_cast<std::size_t>(label_count);
  std::vector<Counts> counts(width);
  const std::int64_t right_rows = count(probabilities, targets, static_cast<float>(threshold), counts);
  Metrics metrics;
  metrics.threshold = threshold;
  metrics.subset_accuracy = ratio(static_cast<double>(right_rows), static_cast<double>(probabilities.size() / width));
  Counts total;
  for (const Counts& label : counts) {
    total.hits += label.hits;
    total.predicted += label.predicted;
    total.support += label.support;
  }
  metrics.micro = score(total);
  for (const Counts& label : counts) {
    metrics.labels.push_back({score(label), label.support});
    add(metrics.macro, score(label), 1);
    add(metrics.weighted, score(label), static_cast<double>(label.support));
  }
  divide(metrics.macro, static_cast<double>(width));
  divide(metrics.weighted, static_cast<double>(total.support));
  return metrics;
}

std::vector<SweepPoint> sweep(std::span<const float> probabilities, std::span<const float> targets,
                              std::int64_t label_count) {
  std::vector<SweepPoint> points;
  for (int twentieths = 1; twentieths < 20; ++twentieths) {
    const Metrics metrics = measure(probabilities, targets, label_count, twentieths / 20.0);
    points.push_back({metrics.threshold, metrics.micro.f1, metrics.macro.f1, metrics.subset_accuracy});
  }
  return points;
}

const SweepPoint& best_micro(std::span<const SweepPoint> points) {
  if (points.empty()) throw std::logic_error("best_micro: no points");
  return *std::max_element(points.begin(), points.end(),
                           [](const SweepPoint& a, const SweepPoint& b) { return a.f1_micro < b.f1_micro; });
}

double expected_calibration_error(std::span<const float> probabilities, std::span<const float> targets,
                                  std::int64_t label_count) {
  check_shapes(probabilities, targets, label_count);
  constexpr std::size_t kBins = 15;
  // A bin's term is |sum of its scores - number of its labels set| / all pairs, so that difference is all it keeps.
  std::array<double, kBins> differences{};
  for (std::size_t i = 0; i < probabilities.size(); ++i) {
    check_probability(probabilities[i], i, static_cast<std::size_t>(label_count));
    const double probability = probabilities[i];  // whose product with 15 a double holds exactly
    const std::size_t bin = std::min(static_cast<std::size_t>(probability * kBins), kBins - 1);
    differences[bin] += targets[i] != 0 ? probability - 1 : probability;
  }
  double sum = 0;
  for (const double difference : differences) sum += std::abs(difference);
  return sum / static_cast<double>(probabilities.size());
}

}  // namespace ember
