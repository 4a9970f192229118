// Quality of multi-label predictions: counts at a threshold, and precision, recall and F1 from them, defined as
// scikit-learn's precision_recall_fscore_support with zero_division=0; and how far the scores are from probabilities.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace ember {

struct PrecisionRecallF1 {
  double precision = 0, recall = 0, f1 = 0;
};

struct LabelMetrics {
  PrecisionRecallF1 score;
  std::int64_t support = 0;  // rows that truly have the label
};

struct Metrics {
  double threshold = 0.5;
  PrecisionRecallF1 micro;     // of the counts summed over the labels
  PrecisionRecallF1 macro;     // mean over the labels
  PrecisionRecallF1 weighted;  // mean over the labels, weighted by their support
  double subset_accuracy = 0;  // rows whose whole label set is right
  std::vector<LabelMetrics> labels;
};

// probabilities and targets: rows x label_count, row-major. A label is predicted where probability >= threshold,
// compared as 32-bit floats. Error when the threshold or a probability is not a number in [0, 1], or there are no rows.
Metrics measure(std::span<const float> probabilities, std::span<const float> targets, std::int64_t label_count,
                double threshold);

// F1-micro, F1-macro and subset accuracy at 0.05, 0.10, ... 0.95.
struct SweepPoint {
  double threshold, f1_micro, f1_macro, subset_accuracy;
};
std::vector<SweepPoint> sweep(std::span<const float> probabilities, std::span<const float> targets,
                              std::int64_t label_count);

// The point of the highest F1-micro; of equal ones the lowest threshold.
const SweepPoint& best_micro(std::span<const SweepPoint> points);

// The expected calibration error (Naeini, Cooper, Hauskrecht, AAAI 2015) of the scores as probabilities of their
// labels, each pair of a row and a label for itself as a binary prediction. Of B = 15 bins of equal width, as in Guo et
// al., ICML 2017, bin b has the pairs with b / B <= score < (b + 1) / B, the last a score of 1 too:
//   sum over the bins of (pairs in it / all pairs) * |mean score in it - share of its pairs whose label is set|
// In double; a score's bin is that of its exact value. Takes and refuses what measure does.
double expected_calibration_error(std::span<const float> probabilities, std::span<const float> targets,
                                  std::int64_t label_count);

}  // namespace ember
