// Texts to scores by Classifier, tokenisation included. On the CPU, where Classifier computes.
#pragma once

#include <string>
#include <vector>

#include "bench/step_inputs.h"
#include "model/classifier.h"

namespace ember {

struct InferenceResult {
  std::string texts;                // "one of 20 tokens", "1000 at once"
  std::int64_t count = 1;           // texts that the seconds are of
  double tokens = 0;                // of a text; 0 where that varies
  std::vector<double> repetitions;  // seconds
};

// `texts` again and again; a repetition is the median of as many calls as `seconds` hold, one at least.
InferenceResult time_predictions(Classifier& classifier, const std::vector<std::string>& texts, int repetitions,
                                 double seconds);

}  // namespace ember
