// What evaluate found, as a table to read or as JSON.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "data/examples.h"
#include "train/metrics.h"

namespace ember {

struct EvaluationReport {
  std::string model, data, split;
  std::string computed_in;  // --precision, whose name the reports of labels need for something else
  ReadReport rows;
  Labels labels;
  double loss = 0;
  double calibration_error = 0;  // expected_calibration_error of the scores, which no threshold changes
  Metrics metrics;
  std::vector<SweepPoint> sweep;  // empty unless asked for
  // The same rows in fp32, where the above is in int8.
  struct Exact {
    double loss = 0;
    Metrics metrics;
  };
  std::optional<Exact> fp32;
};

std::string as_text(const EvaluationReport& report);
// {"model", "computed_in", "data", "split", "rows", "skipped_rows", "invalid_utf8_rows", "threshold", "loss",
//  "expected_calibration_error", "subset_accuracy", "micro", "macro", "weighted": {"precision", "recall", "f1"},
//  "labels": [{"label", ..., "support"}], and with a sweep "sweep": [{"threshold", "f1_micro", "f1_macro",
//  "subset_accuracy"}] and "best", one of them; with fp32 "fp32": {"loss", "subset_accuracy", "micro", "macro",
//  "weighted"} and "int8_costs": {"loss", "f1_micro", "f1_macro", "subset_accuracy"}, above zero where int8 is worse}
std::string as_json(const EvaluationReport& report);

}  // namespace ember
