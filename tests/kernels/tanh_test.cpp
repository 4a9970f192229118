// The operations between the encoder and the classifier: gather_first and tanh, forward and backward.
#include "tests/reference/tanh.h"

#include <gtest/gtest.h>

#include <stdexcept>

#include "tests/kernels/packed_sequences.h"
#include "tests/kernels/reproducible.h"

namespace ember {
namespace {

using testing::all_close;
using testing::draw;
using testing::PackedSequences;
using testing::Results;
using testing::results;
using testing::StridedMatrix;

TEST(GatherFirst, CopiesTheFirstRowOfEachSequence) {
  for (const std::int64_t cols : {1, 26, 312}) {
    const PackedSequences packed({3, 1, 128, 2}, 9, 1);
    const std::vector<double> in = draw(134 * cols, 1);
    std::vector<float> expected;
    for (const std::int64_t row : {0, 3, 4, 132})
      expected.insert(expected.end(), in.begin() + row * cols, in.begin() + (row + 1) * cols);
    const Results actual = testing::run_reproducibly([&](Kernels& kernels) {
      const StridedMatrix from(134, cols, 2, in), out(4, cols, 1);
      kernels.gather_first(out.view, from.view, packed.batch);
      return results({&out});
    });
    EXPECT_EQ(actual[0], expected);
  }
}

TEST(GatherFirst, BackwardAddsToTheFirstRowsOnly) {
  const std::int64_t cols = 5;
  const PackedSequences packed({2, 1, 3}, 9, 1);
  const auto din = draw(6 * cols, 1), dout = draw(3 * cols, 2);
  std::vector<float> expected(din.begin(), din.end());
  const std::int64_t first_rows[] = {0, 2, 3};
  for (std::int64_t i = 0; i < 3 * cols; ++i)
    expected[static_cast<std::size_t>(first_rows[i / cols] * cols + i % cols)] +=
        static_cast<float>(dout[static_cast<std::size_t>(i)]);
  const Results actual = testing::run_reproducibly([&](Kernels& kernels) {
    const StridedMatrix to(6, cols, 2, din), from(3, cols, 1, dout);
    kernels.gather_first_backward(to.view, from.view, packed.batch);
    return results({&to});
  });
  EXPECT_EQ(actual[0], expected);
}

TEST(GatherFirst, EmptyBatchAndWrongShapes) {
  const auto kernels = make_cpu_kernels(Precision::fp32, 1);
  const PackedSequences none({}, 9, 1), two({2, 1}, 9, 1), hollow({2, 0}, 9, 1);
  const StridedMatrix empty(0, 4, 0), tokens(3, 4, 0), sequences(2, 4, 0), narrow(2, 3, 0);
  EXPECT_NO_THROW(kernels->gather_first(empty.view, empty.view, none.batch));
  EXPECT_NO_THROW(kernels->gather_first_backward(empty.view, empty.view, none.batch));
  EXPECT_NO_THROW(kernels->gather_first(sequences.view, tokens.view, two.batch));
  EXPECT_THROW(kernels->gather_first(narrow.view, tokens.view, two.batch), std::logic_error);
  EXPECT_THROW(kernels->gather_first(tokens.view, tokens.view, two.batch), std::logic_error);
  EXPECT_THROW(kernels->gather_first_backward(tokens.view, tokens.view, two.batch), std::logic_error);
  EXPECT_THROW(kernels->gather_first(sequences.view, sequences.view, hollow.batch), std::logic_error);
}

struct TanhCase {
  std::int64_t rows, cols;
  float probability;
};

std::vector<TanhCase> tanh_cases() {
  std::vector<TanhCase> all;
  for (const std::int64_t rows : {0, 1, 2, 16, 31, 33, 308})
    for (const std::int64_t cols : {26, 312, 384})
      for (const float probability : {0.0f, 0.1f, 0.5f}) all.push_back({rows, cols, probability});
  return all;
}

class Tanh : public ::testing::TestWithParam<TanhCase> {
 protected:
  const std::int64_t rows = GetParam().rows, cols = GetParam().cols;
  const Dropout dropout{GetParam().probability, 0x123456789abcdef0u, 0x500, 3};
  const std::vector<double> in = draw(rows * cols, 1), bias = draw(cols, 2), dout = draw(rows * cols, 3);
  const StridedMatrix bias_{1, cols, 0, bias};

  // out, activated
  Results forward(Kernels& kernels, bool alias, std::int64_t gap) const {
    const StridedMatrix in_(rows, cols, gap, in), out(rows, cols, gap), own(rows, cols, gap);
    const StridedMatrix& activated = alias ? in_ : own;
    kernels.tanh_forward(out.view, activated.view, in_.view, bias_.view, dropout);
    return results({&out, &activated});
  }

  // din, dbias; from what forward left.
  Results backward(Kernels& kernels, const Results& saved, bool alias, std::int64_t gap) const {
    const StridedMatrix activated(rows, cols, gap, std::vector<double>(saved[1].begin(), saved[1].end())),
        dout_(rows, cols, gap, dout), own(rows, cols, gap), dbias(1, cols, 0);
    const StridedMatrix& din = alias ? dout_ : own;
    kernels.tanh_backward(din.view, dbias.view, dout_.view, activated.view, dropout);
    return results({&din, &dbias});
  }
};

// in + bias is below 8 and rounded by 2.4e-7, which tanh does not enlarge; dropout doubles what is left.
TEST_P(Tanh, AgreesWithTheOracle) {
  const Results out = testing::run_reproducibly([&](Kernels& kernels) { return forward(kernels, false, 0); });
  const auto expected = reference::tanh_forward(in, bias, dropout);
  EXPECT_TRUE(all_close(out[0], expected.out, 1e-6, 0));
  EXPECT_TRUE(all_close(out[1], expected.activated, 5e-7, 0));
  const Results gradients =
      testing::run_reproducibly([&](Kernels& kernels) { return backward(kernels, out, false, 0); });
  // 1 - activated² is off by twice the error of activated, times dout below 5 and 2 for dropout.
  const auto [din, dbias] = reference::tanh_backward(dout, expected.activated, bias.size(), dropout);
  EXPECT_TRUE(all_close(gradients[0], din, 5e-6, 0));
  EXPECT_TRUE(all_close(gradients[1], dbias, testing::sum_tolerance(rows) + 5e-6, 0));
}

TEST_P(Tanh, OperandsMayOverlapAndBeStrided) {
  const auto kernels = make_cpu_kernels(Precision::fp32, 2);
  const Results plain = forward(*kernels, false, 0);
  EXPECT_EQ(plain, forward(*kernels, true, 3));
  EXPECT_EQ(backward(*kernels, plain, false, 0), backward(*kernels, plain, true, 3));
}

INSTANTIATE_TEST_SUITE_P(Shapes, Tanh, ::testing::ValuesIn(tanh_cases()), [](const auto& tested) {
  return std::to_string(tested.param.rows) + "x" + std::to_string(tested.param.cols) + "_dropout" +
         std::to_string(static_cast<int>(100 * tested.param.probability));
});

TEST(TanhShapes, WrongOnesAreRefused) {
  const auto kernels = make_cpu_kernels(Precision::fp32, 1);
  const StridedMatrix a(2, 4, 0), b(3, 4, 0), vector(1, 4, 0), longer(1, 5, 0);
  EXPECT_THROW(kernels->tanh_forward(a.view, a.view, b.view, vector.view, {}), std::logic_error);
  EXPECT_THROW(kernels->tanh_forward(a.view, a.view, a.view, longer.view, {}), std::logic_error);
  EXPECT_THROW(kernels->tanh_backward(a.view, longer.view, a.view, a.view, {}), std::logic_error);
}

}  // namespace
}  // namespace ember
