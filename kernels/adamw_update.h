// The one place where an element's AdamW update is computed, for every backend (the contract: Kernels::adamw). The
// dense, row and replay loops must give the same bits although the compiler may vectorise and unroll each in its own
// way. Left free, it would also choose which products to fuse into which sums; so every sum here is an explicit
// multiply-add, and no product feeds a sum outside of one. On a GPU division and square root round as IEEE 754 asks
// (nvcc's defaults), so its bits are those of a CPU that has fused multiply-adds. The functions have internal linkage
// because files compiled for different instruction sets differ in them.
#pragma once

#include <cfloat>
#include <cmath>

#include "kernels/host_device.h"
#include "kernels/kernels.h"

namespace ember {

// a b + c, rounded once where the target has the instruction, as GPUs do (EMBER_SHARED: code of theirs, emulated).
// Where it has none there is nothing to fuse into, so the two roundings are as reproducible, and far faster than the
// library's emulation.
EMBER_HOST_DEVICE static inline float multiply_add(float a, float b, float c) {
#if defined(FP_FAST_FMAF) || defined(__CUDA_ARCH__) || defined(EMBER_SHARED)
  return std::fma(a, b, c);
#else
  return a * b + c;
#endif
}

EMBER_HOST_DEVICE static inline void update_element(float& weight, float& first_moment, float& second_moment,
                                                    float gradient, const AdamWUpdate& update) {
  const float m = multiply_add(update.beta1, first_moment, (1 - update.beta1) * gradient);
  const float v = multiply_add(update.beta2, second_moment, (1 - update.beta2) * gradient * gradient);
  first_moment = std::fabs(m) < FLT_MIN ? 0.0f : m;
  second_moment = v;
  const float denominator = multiply_add(std::sqrt(v), update.inverse_correction, update.epsilon);
  weight = multiply_add(-update.step_size, first_moment / denominator, update.decay * weight);
}

// What gradients are multiplied by: clipping to max_norm, and the loss scale taken out.
EMBER_HOST_DEVICE static inline float gradient_scale(const StepState& state, float max_norm) {
  const float clip = max_norm == 0 ? 1 : max_norm / (state.gradient_norm + 1e-6f);
  return (clip >= 1 ? 1.0f : clip) / state.loss_scale;
}

EMBER_HOST_DEVICE static inline AdamWUpdate without_decay(AdamWUpdate update) {
  update.decay = 1;
  return update;
}

// What an update with gradient zero does, bit for bit, where the first moment is zero or so small that the weight
// rounds to what it would be without: each shrinks on its own.
EMBER_HOST_DEVICE static inline float decayed_weight(float weight, const AdamWUpdate& update) {
  return update.decay * weight;
}
EMBER_HOST_DEVICE static inline float decayed_first_moment(float first_moment, const AdamWUpdate& update) {
  const float m = update.beta1 * first_moment;
  return std::fabs(m) < FLT_MIN ? 0.0f : m;
}
EMBER_HOST_DEVICE static inline float decayed_second_moment(float second_moment, const AdamWUpdate& update) {
  return update.beta2 * second_moment;
}

// update_element with gradient zero, bit for bit, in fewer instructions.
EMBER_HOST_DEVICE static inline void update_without_gradient(float& weight, float& first_moment, float& second_moment,
                                                             const AdamWUpdate& update) {
  first_moment = decayed_first_moment(first_moment, update);
  second_moment = decayed_second_moment(second_moment, update);
  const float denominator = multiply_add(std::sqrt(second_moment), update.inverse_correction, update.epsilon);
  weight = multiply_add(-update.step_size, first_moment / denominator, decayed_weight(weight, update));
}

}  // namespace ember
