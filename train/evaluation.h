// A model's scores over a whole tokenised data set.
#pragma once

#include <cstdint>
#include <vector>

#include "data/dataset.h"
#include "model/bert.h"

namespace ember {

struct Evaluation {
  std::vector<float> probabilities;  // rows x labels
  std::vector<float> targets;        // rows x labels
  double loss = 0;                   // mean over rows x labels
};

// Runs `model` without dropout over `dataset`, in order, in packed batches of at most `batch_tokens` tokens, or one
// text where that has more. Waits for the device at the beginning and at the end alone. Error where there are no rows.
Evaluation evaluate(Bert& model, Kernels& kernels, const BertConfig& config, const Dataset& dataset,
                    std::int64_t batch_tokens);

// The largest of those batches.
BatchLimits evaluation_limits(const Kernels& kernels, const BertConfig& config, const Dataset& dataset,
                              std::int64_t batch_tokens);

}  // namespace ember
