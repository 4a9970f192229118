// Oracle of Kernels::adamw: Algorithm 2 of Loshchilov and Hutter 2019 as the paper writes it, templated on the scalar.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace ember::reference {

template <typename T>
struct AdamW {
  T beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  std::vector<T> weights, first_moment, second_moment;

  // Update number t, counted from 1, by gradients scaled to a norm of max_norm at most (0: as they are).
  void update(const std::vector<T>& gradient, std::int64_t t, T learning_rate, T weight_decay, T norm, T max_norm) {
    const T scale = max_norm > 0 ? std::min(T{1}, max_norm / (norm + T{1e-6})) : T{1};
    for (std::size_t i = 0; i < weights.size(); ++i) {
      const T g = scale * gradient[i];
      first_moment[i] = beta1 * first_moment[i] + (1 - beta1) * g;
      second_moment[i] = beta2 * second_moment[i] + (1 - beta2) * g * g;
      const T m = first_moment[i] / (1 - std::pow(beta1, static_cast<T>(t)));
      const T v = second_moment[i] / (1 - std::pow(beta2, static_cast<T>(t)));
      weights[i] -= learning_rate * (m / (std::sqrt(v) + epsilon) + weight_decay * weights[i]);
    }
  }
};

}  // namespace ember::reference
