// Holds a gradient to central differences.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <vector>

namespace ember::reference {

// The weighted sum of `out`, whose gradient with respect to out is `weights`.
inline double weighted_sum(const std::vector<double>& out, const std::vector<double>& weights) {
  double sum = 0;
  for (std::size_t i = 0; i < out.size(); ++i) sum += out[i] * weights[i];
  return sum;
}

// loss() is a function of `values`, which are moved one at a time and put back. For functions whose values and third
// derivatives are at most about 100, a step of 1e-5 is off by 1e-8 at most: 100 x 1e-10 / 6 for the step and
// 100 x 2^-53 / 1e-5 for the rounding.
template <typename Loss>
void expect_gradient(std::vector<double>& values, const std::vector<double>& gradient, const Loss& loss) {
  ASSERT_EQ(values.size(), gradient.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double kept = values[i], step = 1e-5;
    values[i] = kept + step;
    const double above = loss();
    values[i] = kept - step;
    const double below = loss();
    values[i] = kept;
    EXPECT_NEAR(gradient[i], (above - below) / (2 * step), 1e-8) << "element " << i;
  }
}

}  // namespace ember::reference
