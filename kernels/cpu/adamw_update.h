// The one place where an element's AdamW update is computed (the contract: Kernels::adamw). The dense, row and replay
// loops must give the same bits although the compiler may vectorise and unroll each in its own way. Left free, it would
// also choose which products to fuse into which sums; so every sum here is an explicit multiply-add, and no product
// feeds a sum outside of one.
#pragma once

#include <cfloat>
#include <cmath>

#include "kernels/kernels.h"

namespace ember {

// a b + c, rounded once where the target has the instruction. Where it has none there is nothing to fuse into, so the
// two roundings are as reproducible, and far faster than the library's emulation.
inline float multiply_add(float a, float b, float c) {
#ifdef FP_FAST_FMAF
  return std::fma(a, b, c);
#else
  return a * b + c;
#endif
}

inline void update_element(float& weight, float& first_moment, float& second_moment, float gradient,
                           const AdamWUpdate& update) {
  const float m = multiply_add(update.beta1, first_moment, (1 - update.beta1) * gradient);
  const float v = multiply_add(update.beta2, second_moment, (1 - update.beta2) * gradient * gradient);
  first_moment = std::fabs(m) < FLT_MIN ? 0.0f : m;
  second_moment = v;
  const float denominator = multiply_add(std::sqrt(v), update.inverse_correction, update.epsilon);
  weight = multiply_add(-update.step_size, first_moment / denominator, update.decay * weight);
}

// What an update with gradient zero does once the first moment is zero, bit for bit: the weight and the second moment
// shrink on their own.
inline float decayed_weight(float weight, const AdamWUpdate& update) {
  return update.decay * weight;
}
inline float decayed_second_moment(float second_moment, const AdamWUpdate& update) {
  return update.beta2 * second_moment;
}

}  // namespace ember
