// What the tests of AdamW on both backends share: a step's coefficients, and which rows of a table the steps touch.
#pragma once

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "kernels/kernels.h"

namespace ember::testing {

inline AdamWUpdate coefficients(std::int64_t t, double learning_rate, double weight_decay) {
  AdamWUpdate update;
  const auto power = static_cast<double>(t);
  update.decay = static_cast<float>(1 - learning_rate * weight_decay);
  update.step_size = static_cast<float>(learning_rate / (1 - std::pow(static_cast<double>(update.beta1), power)));
  update.inverse_correction = static_cast<float>(1 / std::sqrt(1 - std::pow(static_cast<double>(update.beta2), power)));
  return update;
}

// Which of `count` rows step t of 1,000 touches: 0 and 1 never; 2 twice, with momentum long gone in between; 3 once; 4
// in a run at the end; the rest at random, the later ones rarely.
inline std::vector<std::int32_t> touched_rows(std::int64_t t, std::int32_t count, std::mt19937& generator) {
  std::vector<std::int32_t> rows;
  if (t == 20 || t == 980) rows.push_back(2);
  if (t == 50) rows.push_back(3);
  if (t > 990) rows.push_back(4);
  for (std::int32_t row = 5; row < count; ++row)
    if (std::uniform_real_distribution<double>()(generator) < 1.0 / (row * row - 20)) rows.push_back(row);
  return rows;
}

}  // namespace ember::testing
