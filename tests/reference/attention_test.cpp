// The attention oracle's backward against central differences of its forward, in double.
#include "tests/reference/attention.h"

#include <gtest/gtest.h>

#include "tests/kernels/strided.h"
#include "tests/reference/central_differences.h"

namespace ember::reference {
namespace {

void expect_central_differences(Queries queries, float probability) {
  const std::int64_t heads = 2, dim = 3, cols = heads * dim, tokens = 7, positions = 6;
  const std::vector<std::int64_t> lengths{4, 1, 2};
  const Attention<double> attention(lengths, heads, dim, positions, queries, {probability, 5, 3, 2});
  const std::int64_t rows = queries == Queries::all ? tokens : static_cast<std::int64_t>(lengths.size());
  std::vector<double> query = testing::draw(rows * cols, 1), key = testing::draw(tokens * cols, 2),
                      value = testing::draw(tokens * cols, 3);
  const std::vector<double> dout = testing::draw(rows * cols, 4);
  const auto loss = [&] { return weighted_sum(attention.forward(query, key, value), dout); };
  const auto gradients = attention.backward(dout, query, key, value);
  expect_gradient(query, gradients.query, loss);
  expect_gradient(key, gradients.key, loss);
  expect_gradient(value, gradients.value, loss);
}

TEST(AttentionOracle, BackwardAgreesWithCentralDifferences) {
  for (const Queries queries : {Queries::all, Queries::first})
    for (const float probability : {0.0f, 0.4f}) expect_central_differences(queries, probability);
}

// Equal keys give equal weights, so the output is the mean of the values.
TEST(AttentionOracle, EqualKeysGiveTheMean) {
  const Attention<double> attention({4}, 1, 1, 4, Queries::all, {});
  const auto out = attention.forward({3, -1, 0, 2}, {5, 5, 5, 5}, {1, 2, 3, 6});
  for (const double value : out) EXPECT_NEAR(value, 3, 1e-15);
}

}  // namespace
}  // namespace ember::reference
