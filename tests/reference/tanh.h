// Oracle of Kernels::tanh_*: naive loops, templated on the scalar. Matrices are row-major vectors.
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

#include "tests/reference/dropout.h"

namespace ember::reference {

template <typename T>
struct TanhOutputs {
  std::vector<T> activated, out;
};

template <typename T>
TanhOutputs<T> tanh_forward(const std::vector<T>& in, const std::vector<T>& bias, const Dropout& dropout) {
  TanhOutputs<T> result{std::vector<T>(in.size()), dropout_multipliers<T>(dropout, in.size())};
  for (std::size_t i = 0; i < in.size(); ++i) {
    result.activated[i] = std::tanh(in[i] + bias[i % bias.size()]);
    result.out[i] *= result.activated[i];
  }
  return result;
}

template <typename T>
struct TanhGradients {
  std::vector<T> in, bias;
};

template <typename T>
TanhGradients<T> tanh_backward(const std::vector<T>& dout, const std::vector<T>& activated, std::size_t cols,
                               const Dropout& dropout) {
  TanhGradients<T> g{dropout_multipliers<T>(dropout, dout.size()), std::vector<T>(cols)};
  for (std::size_t i = 0; i < dout.size(); ++i)
    g.bias[i % cols] += g.in[i] *= dout[i] * (1 - activated[i] * activated[i]);
  return g;
}

}  // namespace ember::reference
