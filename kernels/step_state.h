// The one place where a step is counted and recorded and the loss scale adapts, for every backend
// (Kernels::finish_step).
#pragma once

#include <cmath>

#include "kernels/host_device.h"
#include "kernels/kernels.h"

namespace ember {

constexpr int kMostDoublings = 24;  // of a loss scale of 1, and as many halvings
constexpr float kLargestLossScale = 1 << kMostDoublings;
constexpr float kSmallestLossScale = 1 / kLargestLossScale;

EMBER_HOST_DEVICE inline void count(StepState& state, const LossScaling& scaling, float loss) {
  ++state.steps;
  const bool adapts = scaling.growth_interval > 0;
  if (state.finite == 0) {
    ++state.skipped;
    state.clean_steps = 0;
    // The scale multiplies what comes after the loss: one that is not finite is so at any scale.
    if (adapts && std::isfinite(loss) && state.loss_scale > kSmallestLossScale) state.loss_scale /= 2;
    return;
  }
  ++state.updates;
  ++state.clean_steps;
  if (!adapts || state.clean_steps < scaling.growth_interval) return;
  state.clean_steps = 0;
  if (state.loss_scale < kLargestLossScale) state.loss_scale *= 2;
}

EMBER_HOST_DEVICE inline void finish(StepState& state, const LossScaling& scaling, const StepLog& log) {
  if (log.before != nullptr) *log.before = state;
  const std::int32_t step = state.steps;
  const float loss = log.loss == nullptr ? 0 : *log.loss;
  count(state, scaling, loss);
  if (log.records != nullptr) log.records[step % log.capacity] = {loss, state};
}

}  // namespace ember
