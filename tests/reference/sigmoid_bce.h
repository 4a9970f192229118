// Oracle of Kernels::sigmoid_bce: naive loops, templated on the scalar. Matrices are row-major vectors.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace ember::reference {

template <typename T>
struct SigmoidBce {
  T loss = 0;
  std::vector<T> dlogits, probabilities;
};

template <typename T>
SigmoidBce<T> sigmoid_bce(const std::vector<T>& logits, const std::vector<T>& targets, T scale) {
  SigmoidBce<T> result;
  const T count = static_cast<T>(logits.size());
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const T x = logits[i], p = 1 / (1 + std::exp(-x));
    result.loss += (std::max(x, T{0}) - x * targets[i] + std::log1p(std::exp(-std::fabs(x)))) / count;
    result.dlogits.push_back(scale * (p - targets[i]) / count);
    result.probabilities.push_back(p);
  }
  return result;
}

}  // namespace ember::reference
