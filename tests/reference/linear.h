// Oracle of Kernels::linear_*: naive loops, templated on the scalar.
#pragma once

#include <cstdint>
#include <vector>

namespace ember::reference {

// out (M, O) = in (M, I) weight (O, I)ᵀ + bias (O).
template <typename T>
std::vector<T> linear_forward(const std::vector<T>& in, const std::vector<T>& weight, const std::vector<T>& bias,
                              std::int64_t rows, std::int64_t outputs, std::int64_t inputs) {
  std::vector<T> out(static_cast<std::size_t>(rows * outputs));
  for (std::int64_t m = 0; m < rows; ++m)
    for (std::int64_t o = 0; o < outputs; ++o) {
      T sum = bias.empty() ? T{0} : bias[static_cast<std::size_t>(o)];
      for (std::int64_t i = 0; i < inputs; ++i)
        sum += in[static_cast<std::size_t>(m * inputs + i)] * weight[static_cast<std::size_t>(o * inputs + i)];
      out[static_cast<std::size_t>(m * outputs + o)] = sum;
    }
  return out;
}

template <typename T>
struct LinearGradients {
  std::vector<T> in, weight, bias;
};

template <typename T>
LinearGradients<T> linear_backward(const std::vector<T>& dout, const std::vector<T>& in, const std::vector<T>& weight,
                                   std::int64_t rows, std::int64_t outputs, std::int64_t inputs) {
  LinearGradients<T> g{std::vector<T>(in.size()), std::vector<T>(weight.size()),
                       std::vector<T>(static_cast<std::size_t>(outputs))};
  for (std::int64_t m = 0; m < rows; ++m)
    for (std::int64_t o = 0; o < outputs; ++o) {
      const T d = dout[static_cast<std::size_t>(m * outputs + o)];
      g.bias[static_cast<std::size_t>(o)] += d;
      for (std::int64_t i = 0; i < inputs; ++i) {
        const auto at_in = static_cast<std::size_t>(m * inputs + i), at_w = static_cast<std::size_t>(o * inputs + i);
        g.in[at_in] += d * weight[at_w];
        g.weight[at_w] += d * in[at_in];
      }
    }
  return g;
}

}  // namespace ember::reference
