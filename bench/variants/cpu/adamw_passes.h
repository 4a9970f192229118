// AdamW, rung 1: each line of the algorithm is a loop over the whole tensor, one tensor after the other, on one thread;
// the embedding table is a tensor like the others, with a gradient of zeros for the rows that the batch does not have.
//
// What is slow: weights and first moments are fetched from memory twice, second moments twice, gradients twice: 48
// bytes an element where 28 would do; and two thirds of the elements are rows of the table that only decay.
#pragma once

#include <algorithm>
#include <cfloat>
#include <cmath>

#include "bench/variants/shipped.h"
#include "kernels/adamw_update.h"

namespace ember::variants {

// The gradient of the whole table: zeros, and the batch's rows in their places.
class DenseGradient {
 public:
  Tensor of(const AdamWCall& a, int threads) {
    const Tensor& table = a.table.weights;
    const auto bytes = static_cast<std::size_t>(table.size()) * sizeof(float);
    if (memory_.size() < bytes) memory_ = host_buffer(bytes);
    const Tensor gradient = matrix(memory_.data(), table.rows, table.cols);
#pragma omp parallel for num_threads(threads)
    for (std::int64_t r = 0; r < table.rows; ++r) std::fill_n(gradient.row(r), table.cols, 0.0f);
    for (std::int64_t u = 0; u < a.table.gradient.rows; ++u)
      std::copy_n(a.table.gradient.row(u), table.cols, gradient.row(a.ids[u]));
    return gradient;
  }

 private:
  Buffer memory_;
};

// The sums and products are those of update_element (kernels/adamw_update.h), so every rung gives the same bits.
inline void update_in_passes(const AdamWParameter& parameter, float scale, const AdamWUpdate update) {
  const std::int64_t size = parameter.weights.size();
  float *w = parameter.weights.f32(), *m = parameter.first_moment.f32(), *v = parameter.second_moment.f32();
  const float* gradient = parameter.gradient.f32();
#pragma omp simd
  for (std::int64_t i = 0; i < size; ++i) w[i] *= update.decay;
#pragma omp simd
  for (std::int64_t i = 0; i < size; ++i) {
    const float moment = multiply_add(update.beta1, m[i], (1 - update.beta1) * (scale * gradient[i]));
    m[i] = std::fabs(moment) < FLT_MIN ? 0.0f : moment;
  }
#pragma omp simd
  for (std::int64_t i = 0; i < size; ++i) {
    const float g = scale * gradient[i];
    v[i] = multiply_add(update.beta2, v[i], (1 - update.beta2) * g * g);
  }
#pragma omp simd
  for (std::int64_t i = 0; i < size; ++i) {
    const float denominator = multiply_add(std::sqrt(v[i]), update.inverse_correction, update.epsilon);
    w[i] = multiply_add(-update.step_size, m[i] / denominator, w[i]);
  }
}

inline void adamw_passes(const AdamWCall& a, DenseGradient& table) {
  if (a.state->finite == 0) return;
  const AdamWUpdate decayed = a.schedule[a.state->updates], plain = without_decay(decayed);
  const float scale = gradient_scale(*a.state, a.max_norm);
  for (const AdamWParameter& parameter : with_dense_table(a, table.of(a, 1)))
    update_in_passes(parameter, scale, parameter.decayed ? decayed : plain);
}

}  // namespace ember::variants
