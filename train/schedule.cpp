#include "train/schedule.h"

#include <algorithm>
#include <cmath>

namespace ember {

Schedule::Schedule(double peak, double warmup_ratio, std::int64_t total_steps)
    : peak_(peak),
      warmup_steps_(static_cast<std::int64_t>(std::ceil(warmup_ratio * static_cast<double>(total_steps)))),
      total_steps_(total_steps) {}

double Schedule::at(std::int64_t step) const {
  const auto s = static_cast<double>(step), warmup = static_cast<double>(warmup_steps_);
  if (step < warmup_steps_) return peak_ * (s / std::max(1.0, warmup));
  const auto total = static_cast<double>(total_steps_);
  return peak_ * std::max(0.0, (total - s) / std::max(1.0, total - warmup));
}

AdamWUpdate adamw_update(const AdamWOptions& options, double learning_rate, std::int64_t t) {
  const auto power = static_cast<double>(t);
  AdamWUpdate update;
  update.beta1 = options.beta1;
  update.beta2 = options.beta2;
  update.epsilon = options.epsilon;
  update.decay = static_cast<float>(1 - learning_rate * options.weight_decay);
  update.step_size = static_cast<float>(learning_rate / (1 - std::pow(static_cast<double>(update.beta1), power)));
  update.inverse_correction = static_cast<float>(1 / std::sqrt(1 - std::pow(static_cast<double>(update.beta2), power)));
  return update;
}

}  // namespace ember
