// AdamW, rung 1: each line of the algorithm is a kernel of its own over one tensor, one thread an element, as a library
// of element-wise operations would run it; five launches for each of the 73 tensors.
//
// What is slow: 54 bytes an element (weights read and written twice, moments read twice and written once, the gradient
// read twice, the working copy at last) where 30 would do; and 365 launches, most of them for a few hundred elements.
#pragma once

#include <cfloat>
#include <cmath>

#include "bench/variants/cuda/adamw_dense.cuh"

namespace ember::variants {

__global__ void adamw_decay_kernel(AdamWTensor t) {
  const std::int64_t i = thread_in_grid();
  if (i < t.size && t.step->finite != 0) t.weights[i] *= t.update().decay;
}

__global__ void adamw_first_moment_kernel(AdamWTensor t) {
  const std::int64_t i = thread_in_grid();
  if (i >= t.size || t.step->finite == 0) return;
  const float beta = t.update().beta1;
  const float m = multiply_add(beta, t.m[i], (1 - beta) * (t.scale() * t.gradient[i]));
  t.m[i] = std::fabs(m) < FLT_MIN ? 0.0f : m;
}

__global__ void adamw_second_moment_kernel(AdamWTensor t) {
  const std::int64_t i = thread_in_grid();
  if (i >= t.size || t.step->finite == 0) return;
  const float beta = t.update().beta2, g = t.scale() * t.gradient[i];
  t.v[i] = multiply_add(beta, t.v[i], (1 - beta) * g * g);
}

__global__ void adamw_step_kernel(AdamWTensor t) {
  const std::int64_t i = thread_in_grid();
  if (i >= t.size || t.step->finite == 0) return;
  const AdamWUpdate update = t.update();
  const float denominator = multiply_add(std::sqrt(t.v[i]), update.inverse_correction, update.epsilon);
  t.weights[i] = multiply_add(-update.step_size, t.m[i] / denominator, t.weights[i]);
}

__global__ void adamw_round_kernel(AdamWTensor t) {
  const std::int64_t i = thread_in_grid();
  if (i < t.size && t.step->finite != 0) t.working[i] = __float2half_rn(t.weights[i]);
}

inline void adamw_passes(Device& device, const AdamWCall& a) {
  for (const AdamWParameter& parameter : with_dense_table(a, dense_gradient(device, a))) {
    const AdamWTensor t(parameter, a);
    const auto pass = [&](const char* name, void (*kernel)(AdamWTensor)) {
      launch_threads(device, name, t.size, 256, kernel, t);
    };
    pass("adamw_decay", adamw_decay_kernel);
    pass("adamw_first_moment", adamw_first_moment_kernel);
    pass("adamw_second_moment", adamw_second_moment_kernel);
    pass("adamw_step", adamw_step_kernel);
    if (t.working != nullptr) pass("adamw_round", adamw_round_kernel);
  }
}

}  // namespace ember::variants
