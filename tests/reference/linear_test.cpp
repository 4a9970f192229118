// The linear oracle's backward against central differences of its forward, in double.
#include "tests/reference/linear.h"

#include <gtest/gtest.h>

#include <random>

namespace ember::reference {
namespace {

TEST(LinearOracle, BackwardAgreesWithCentralDifferences) {
  const std::int64_t m = 3, o = 4, i = 5;
  std::mt19937 generator(7);
  std::normal_distribution<double> normal;
  const auto draw = [&](std::int64_t n) {
    std::vector<double> v(static_cast<std::size_t>(n));
    for (double& x : v) x = normal(generator);
    return v;
  };
  std::vector<double> in = draw(m * i), weight = draw(o * i), bias = draw(o);
  const std::vector<double> dout = draw(m * o);
  const auto loss = [&] {
    const auto out = linear_forward(in, weight, bias, m, o, i);
    double sum = 0;
    for (std::size_t j = 0; j < out.size(); ++j) sum += out[j] * dout[j];
    return sum;
  };
  const auto gradients = linear_backward(dout, in, weight, m, o, i);
  const auto hold = [&](std::vector<double>& values, const std::vector<double>& gradient) {
    for (std::size_t j = 0; j < values.size(); ++j) {
      const double kept = values[j], step = 1e-5;
      values[j] = kept + step;
      const double above = loss();
      values[j] = kept - step;
      const double below = loss();
      values[j] = kept;
      EXPECT_NEAR(gradient[j], (above - below) / (2 * step), 1e-8);
    }
  };
  hold(in, gradients.in);
  hold(weight, gradients.weight);
  hold(bias, gradients.bias);
}

}  // namespace
}  // namespace ember::reference
