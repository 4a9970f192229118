// The coefficients of AdamW's updates at a falling rate, for the benchmark and the tests.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/kernels.h"

namespace ember::variants {

struct Rates {
  double learning_rate, weight_decay;
};

// Of update number t, from 1 on, of `steps`.
inline Rates rates(std::int64_t t, std::int64_t steps) {
  return {1e-3 * static_cast<double>(steps + 1 - t) / static_cast<double>(steps), 0.01};
}

inline std::vector<AdamWUpdate> falling_schedule(std::int64_t steps) {
  std::vector<AdamWUpdate> updates(static_cast<std::size_t>(steps));
  for (std::int64_t t = 1; t <= steps; ++t) {
    AdamWUpdate& update = updates[static_cast<std::size_t>(t - 1)];
    const auto [rate, decay] = rates(t, steps);
    const auto correction = [t](double beta) { return 1 - std::pow(beta, static_cast<double>(t)); };
    update.decay = static_cast<float>(1 - rate * decay);
    update.step_size = static_cast<float>(rate / correction(static_cast<double>(update.beta1)));
    update.inverse_correction = static_cast<float>(1 / std::sqrt(correction(static_cast<double>(update.beta2))));
  }
  return updates;
}

}  // namespace ember::variants
