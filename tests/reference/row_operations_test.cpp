// The backward of the oracles of embeddings, LayerNorm, GELU, tanh and the loss against central differences of their
// forward, in double; and what is known of their forward in closed form.
#include <gtest/gtest.h>

#include "tests/kernels/strided.h"
#include "tests/reference/central_differences.h"
#include "tests/reference/embeddings.h"
#include "tests/reference/gelu.h"
#include "tests/reference/layernorm.h"
#include "tests/reference/sigmoid_bce.h"
#include "tests/reference/tanh.h"

namespace ember::reference {
namespace {

using testing::draw;

const Dropout kDropouts[] = {{}, {0.4f, 5, 3, 2}};

TEST(LayerNormOracle, BackwardAgreesWithCentralDifferences) {
  for (const Dropout& dropout : kDropouts) {
    const std::int64_t rows = 3, cols = 5;
    ResidualLayerNorm<double> layer{{draw(cols, 1), draw(cols, 2), 1e-3}, dropout};
    auto in = draw(rows * cols, 3), bias = draw(cols, 4), residual = draw(rows * cols, 5);
    const auto dout = draw(rows * cols, 6);
    const auto loss = [&] { return weighted_sum(layer.norm.forward(layer.sum(in, bias, residual)), dout); };
    const auto g = layer.backward(dout, layer.sum(in, bias, residual));
    expect_gradient(in, g.in, loss);
    expect_gradient(bias, g.bias, loss);
    expect_gradient(residual, g.residual, loss);
    expect_gradient(layer.norm.weight, g.weight, loss);
    expect_gradient(layer.norm.bias, g.norm_bias, loss);
  }
}

// (1, 3) has mean 2 and variance 1, of the population and not of a sample.
TEST(LayerNormOracle, KnownRow) {
  const LayerNorm<double> norm{{2, 3}, {10, 20}, 0};
  EXPECT_EQ(norm.forward({1, 3}), (std::vector<double>{8, 23}));
}

TEST(EmbeddingsOracle, BackwardAgreesWithCentralDifferences) {
  for (const Dropout& dropout : kDropouts) {
    const std::int64_t cols = 4;
    const Sequences sequences{{3, 1, 2}, {2, 0, 2, 4, 1, 2}};
    Embeddings<double> embeddings{
        draw(5 * cols, 1), draw(4 * cols, 2), draw(2 * cols, 3), {draw(cols, 4), draw(cols, 5), 1e-3}, dropout};
    const auto dout = draw(6 * cols, 6);
    const auto loss = [&] { return weighted_sum(embeddings.forward(sequences), dout); };
    const auto g = embeddings.backward(dout, sequences);
    expect_gradient(embeddings.word, g.word, loss);
    expect_gradient(embeddings.position, g.position, loss);
    expect_gradient(embeddings.type, g.type, loss);
    expect_gradient(embeddings.norm.weight, g.norm_weight, loss);
    expect_gradient(embeddings.norm.bias, g.norm_bias, loss);
  }
}

TEST(EmbeddingsOracle, PlacesStartAgainInEverySequence) {
  const Sequences sequences{{2, 3}, {}};
  const std::vector<std::pair<std::size_t, std::size_t>> expected{{0, 0}, {1, 1}, {2, 0}, {3, 1}, {4, 2}};
  EXPECT_EQ(sequences.places(), expected);
}

TEST(GeluOracle, BackwardAgreesWithCentralDifferences) {
  auto in = draw(12, 1, 2), bias = draw(4, 2);
  const auto dout = draw(12, 3);
  const auto loss = [&] { return weighted_sum(gelu_forward(in, bias), dout); };
  const auto g = gelu_backward(dout, in, bias);
  expect_gradient(in, g.in, loss);
  expect_gradient(bias, g.bias, loss);
}

// Phi(1) = 0.841344746068542948585... (Abramowitz and Stegun, table 26.1).
TEST(GeluOracle, KnownValues) {
  EXPECT_EQ(gelu(0.0), 0);
  EXPECT_NEAR(gelu(1.0), 0.841344746068542949, 1e-16);
  EXPECT_NEAR(gelu(-1.0), 0.841344746068542949 - 1, 1e-16);
}

TEST(TanhOracle, BackwardAgreesWithCentralDifferences) {
  for (const Dropout& dropout : kDropouts) {
    auto in = draw(12, 1), bias = draw(4, 2);
    const auto dout = draw(12, 3);
    const auto loss = [&] { return weighted_sum(tanh_forward(in, bias, dropout).out, dout); };
    const auto g = tanh_backward(dout, tanh_forward(in, bias, dropout).activated, bias.size(), dropout);
    expect_gradient(in, g.in, loss);
    expect_gradient(bias, g.bias, loss);
  }
}

TEST(SigmoidBceOracle, GradientAgreesWithCentralDifferences) {
  auto logits = draw(12, 1, 3);
  const std::vector<double> targets{0, 1, 1, 0, 0, 0, 1, 0, 1, 1, 0, 1};
  const double scale = 8;
  const auto loss = [&] { return scale * sigmoid_bce(logits, targets, scale).loss; };
  expect_gradient(logits, sigmoid_bce(logits, targets, scale).dlogits, loss);
}

// At 0 every loss is log 2, and it is -log of the probability of the target anywhere.
TEST(SigmoidBceOracle, KnownValues) {
  EXPECT_NEAR(sigmoid_bce<double>({0, 0}, {0, 1}, 1).loss, std::log(2.0), 1e-15);
  EXPECT_NEAR(sigmoid_bce<double>({2}, {1}, 1).loss, -std::log(1 / (1 + std::exp(-2.0))), 1e-15);
  EXPECT_NEAR(sigmoid_bce<double>({2}, {0}, 1).loss, std::log1p(std::exp(2.0)), 1e-15);
}

TEST(DropoutOracle, SurvivorsAreScaledByTheirWord) {
  const Dropout dropout{0.5f, 7, 8, 9};
  const PhiloxBlock block = random_block(7, 8, 9, 1);
  for (std::size_t w = 0; w < 4; ++w)
    EXPECT_EQ(dropout_multipliers<double>(dropout, 8)[4 + w], block[w] >= 0x80000000u ? 2.0 : 0.0);
  EXPECT_EQ(dropout_multipliers<double>({}, 3), (std::vector<double>{1, 1, 1}));
}

}  // namespace
}  // namespace ember::reference
