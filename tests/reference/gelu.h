// Oracle of Kernels::gelu_*: naive loops, templated on the scalar. Matrices are row-major vectors.
#pragma once

#include <cmath>
#include <cstddef>
#include <numbers>
#include <vector>

namespace ember::reference {

template <typename T>
T gelu(T x) {
  return x * std::erfc(-x / std::numbers::sqrt2_v<T>) / 2;
}

template <typename T>
T gelu_derivative(T x) {
  const T density = std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi_v<T>);
  return std::erfc(-x / std::numbers::sqrt2_v<T>) / 2 + x * density;
}

template <typename T>
std::vector<T> gelu_forward(const std::vector<T>& in, const std::vector<T>& bias) {
  std::vector<T> out(in.size());
  for (std::size_t i = 0; i < in.size(); ++i) out[i] = gelu(in[i] + bias[i % bias.size()]);
  return out;
}

template <typename T>
struct GeluGradients {
  std::vector<T> in, bias;
};

template <typename T>
GeluGradients<T> gelu_backward(const std::vector<T>& dout, const std::vector<T>& in, const std::vector<T>& bias) {
  GeluGradients<T> g{std::vector<T>(in.size()), std::vector<T>(bias.size())};
  for (std::size_t i = 0; i < in.size(); ++i) {
    g.in[i] = dout[i] * gelu_derivative(in[i] + bias[i % bias.size()]);
    g.bias[i % bias.size()] += g.in[i];
  }
  return g;
}

}  // namespace ember::reference
