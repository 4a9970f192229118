// Oracle of LayerNorm and of Kernels::residual_layernorm_*: naive loops, templated on the scalar. Matrices are
// row-major vectors.
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

#include "tests/reference/dropout.h"

namespace ember::reference {

// The gradient of a LayerNorm's output from its two shares; the second may be empty.
template <typename T>
std::vector<T> output_gradient(std::vector<T> dout, const std::vector<T>& dbranch) {
  for (std::size_t i = 0; i < dbranch.size(); ++i) dout[i] += dbranch[i];
  return dout;
}

template <typename T>
struct LayerNorm {
  std::vector<T> weight, bias;
  T epsilon;

  std::size_t cols() const { return weight.size(); }

  // Means and reciprocal deviations of the rows of x.
  struct Statistics {
    std::vector<T> mean, rstd;
  };
  Statistics statistics(const std::vector<T>& x) const {
    Statistics s;
    for (std::size_t begin = 0; begin < x.size(); begin += cols()) {
      T mean = 0, variance = 0;
      for (std::size_t c = 0; c < cols(); ++c) mean += x[begin + c] / static_cast<T>(cols());
      for (std::size_t c = 0; c < cols(); ++c)
        variance += (x[begin + c] - mean) * (x[begin + c] - mean) / static_cast<T>(cols());
      s.mean.push_back(mean);
      s.rstd.push_back(1 / std::sqrt(variance + epsilon));
    }
    return s;
  }

  std::vector<T> forward(const std::vector<T>& x) const {
    const Statistics s = statistics(x);
    std::vector<T> out(x.size());
    for (std::size_t i = 0; i < x.size(); ++i)
      out[i] = (x[i] - s.mean[i / cols()]) * s.rstd[i / cols()] * weight[i % cols()] + bias[i % cols()];
    return out;
  }

  struct Gradients {
    std::vector<T> x, weight, bias;
  };
  // From the Jacobian of y = (x - mean) rstd: dy_j / dx_i = rstd (1 if i = j - 1 / C - y_i y_j / C).
  Gradients backward(const std::vector<T>& dout, const std::vector<T>& x) const {
    const Statistics s = statistics(x);
    Gradients g{std::vector<T>(x.size()), std::vector<T>(cols()), std::vector<T>(cols())};
    for (std::size_t r = 0; r < s.mean.size(); ++r) {
      const auto y = [&](std::size_t c) { return (x[r * cols() + c] - s.mean[r]) * s.rstd[r]; };
      T mean_g = 0, mean_gy = 0;
      for (std::size_t c = 0; c < cols(); ++c) {
        const T d = dout[r * cols() + c];
        mean_g += d * weight[c] / static_cast<T>(cols());
        mean_gy += d * weight[c] * y(c) / static_cast<T>(cols());
        g.weight[c] += d * y(c);
        g.bias[c] += d;
      }
      for (std::size_t c = 0; c < cols(); ++c)
        g.x[r * cols() + c] = s.rstd[r] * (dout[r * cols() + c] * weight[c] - mean_g - y(c) * mean_gy);
    }
    return g;
  }
};

template <typename T>
struct ResidualLayerNorm {
  LayerNorm<T> norm;
  Dropout dropout;

  // residual + dropout(in + bias), what the LayerNorm is applied to.
  std::vector<T> sum(const std::vector<T>& in, const std::vector<T>& bias, const std::vector<T>& residual) const {
    const std::vector<T> multipliers = dropout_multipliers<T>(dropout, in.size());
    std::vector<T> out(in.size());
    for (std::size_t i = 0; i < in.size(); ++i) out[i] = residual[i] + multipliers[i] * (in[i] + bias[i % bias.size()]);
    return out;
  }

  struct Gradients {
    std::vector<T> residual, in, bias, weight, norm_bias;
  };
  Gradients backward(const std::vector<T>& dout, const std::vector<T>& sum) const {
    const auto g = norm.backward(dout, sum);
    std::vector<T> din = dropout_multipliers<T>(dropout, sum.size()), dbias(norm.cols());
    for (std::size_t i = 0; i < sum.size(); ++i) dbias[i % norm.cols()] += din[i] *= g.x[i];
    return {g.x, din, dbias, g.weight, g.bias};
  }
};

}  // namespace ember::reference
