// The learning rate of each step and the AdamW coefficients that follow from it.
#pragma once

#include <cstdint>

#include "kernels/kernels.h"

namespace ember {

// Linear warm-up from 0, then linear decay to 0 at `total_steps`: the values of get_linear_schedule_with_warmup in
// Hugging Face transformers.
class Schedule {
 public:
  // Warm-up takes ceil(warmup_ratio x total_steps) steps.
  Schedule(double peak, double warmup_ratio, std::int64_t total_steps);
  // The learning rate of step `step`, counted from 0.
  double at(std::int64_t step) const;
  std::int64_t warmup_steps() const { return warmup_steps_; }

 private:
  double peak_;
  std::int64_t warmup_steps_;
  std::int64_t total_steps_;
};

struct AdamWOptions {
  float beta1 = 0.9f;
  float beta2 = 0.999f;
  float epsilon = 1e-8f;
  double weight_decay = 0.01;
  double max_norm = 1;  // gradients are clipped to this global L2 norm
  // Whether every row of the word embedding is updated at every step, and not when it is next read. The bits are the
  // same.
  bool dense = false;
};

// The coefficients of update number `t`, counted from 1, computed in double and rounded once.
AdamWUpdate adamw_update(const AdamWOptions& options, double learning_rate, std::int64_t t);

}  // namespace ember
