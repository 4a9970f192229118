// The linear oracle's backward against central differences of its forward, in double.
#include "tests/reference/linear.h"

#include <gtest/gtest.h>

#include "tests/kernels/strided.h"
#include "tests/reference/central_differences.h"

namespace ember::reference {
namespace {

TEST(LinearOracle, BackwardAgreesWithCentralDifferences) {
  const std::int64_t m = 3, o = 4, i = 5;
  std::vector<double> in = testing::draw(m * i, 1), weight = testing::draw(o * i, 2), bias = testing::draw(o, 3);
  const std::vector<double> dout = testing::draw(m * o, 4);
  const auto loss = [&] { return weighted_sum(linear_forward(in, weight, bias, m, o, i), dout); };
  const auto gradients = linear_backward(dout, in, weight, m, o, i);
  expect_gradient(in, gradients.in, loss);
  expect_gradient(weight, gradients.weight, loss);
  expect_gradient(bias, gradients.bias, loss);
}

}  // namespace
}  // namespace ember::reference
