// What a linear layer's products in fp32 owe to the format, whatever they are made of (kernels/cpu/fp32_product.h):
// digits, not-a-numbers, tiny numbers, and that any number of threads may share them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "kernels/kernels.h"
#include "tests/kernels/strided.h"
#include "tests/reference/linear.h"
#include "tests/support.h"

namespace ember {
namespace {

using testing::draw;
using Strided = testing::StridedMatrix;

// Many rows and few of a weight as it is, and of one that is frozen.
struct Forward {
  std::int64_t rows;
  bool frozen;
};
const Forward kForwards[] = {{3, false}, {3, true}, {100, false}, {100, true}};

void forward(Kernels& kernels, const Forward& how, Tensor out, Tensor in, Tensor weight) {
  if (how.frozen) kernels.freeze({&weight, 1});
  kernels.linear_forward(out, in, weight, {});
  if (how.frozen) kernels.thaw({&weight, 1});
}

// Sums of one product: a float's 24 digits, but for the last. Parts of a float that were left out would show as 2^-16.
TEST(LinearFp32, OneProductHasTheDigitsOfAFloat) {
  const auto kernels = make_cpu_kernels(Precision::fp32, 2);
  for (const Forward& how : kForwards) {
    const std::int64_t m = how.rows, o = 70;
    auto in = draw(m, 1), weight = draw(o, 2);
    for (std::int64_t r = 0; r < m; ++r)
      in[static_cast<std::size_t>(r)] *= std::ldexp(1.0, static_cast<int>(r % 61) - 30);
    const Strided in_(m, 1, 2, in), weight_(o, 1, 0, weight), out(m, o, 3), dout(m, o, 0, draw(m * o, 3));
    forward(*kernels, how, out.view, in_.view, weight_.view);
    double worst = 0;
    for (std::int64_t r = 0; r < m; ++r)
      for (std::int64_t c = 0; c < o; ++c) {
        const double exact = in[static_cast<std::size_t>(r)] * weight[static_cast<std::size_t>(c)];
        worst = std::max(worst, std::fabs(out.view.row(r)[c] - exact) / std::fabs(exact));
      }
    EXPECT_LE(worst, std::ldexp(1.0, -23)) << m << " rows";
    EXPECT_TRUE(out.intact());
  }
}

// The same of the two backward products: one output, one row.
TEST(LinearFp32, OneProductOfBackwardHasThem) {
  const auto kernels = make_cpu_kernels(Precision::fp32, 2);
  constexpr std::int64_t kRows = 90, kInputs = 50;
  const auto dout = draw(kRows, 1), weight = draw(kInputs, 2);
  const Strided dout_(kRows, 1, 0, dout), weight_(1, kInputs, 0, weight), din(kRows, kInputs, 1);
  const Strided row(1, kRows, 0, dout), in(1, kInputs, 0, weight), dweight(kRows, kInputs, 1);
  kernels->linear_backward_input(din.view, dout_.view, weight_.view);
  kernels->linear_backward_weight(dweight.view, {}, row.view, in.view);
  for (std::int64_t r = 0; r < kRows; ++r)
    for (std::int64_t c = 0; c < kInputs; ++c) {
      const double exact = dout[static_cast<std::size_t>(r)] * weight[static_cast<std::size_t>(c)];
      ASSERT_NEAR(din.view.row(r)[c], exact, std::ldexp(std::fabs(exact), -23));
      ASSERT_NEAR(dweight.view.row(r)[c], exact, std::ldexp(std::fabs(exact), -23));
    }
}

// A number that is not finite spoils the outputs that it is a term of, and no other.
TEST(LinearFp32, WhatIsNotFiniteStaysWhereItIs) {
  const auto kernels = make_cpu_kernels(Precision::fp32, 2);
  constexpr std::int64_t kOutputs = 70, kInputs = 77;
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()})
    for (const Forward& how : kForwards)
      for (const std::int64_t place : {0, 3, 20, 76}) {
        const Strided in(how.rows, kInputs, 0, draw(how.rows * kInputs, 1)),
            weight(kOutputs, kInputs, 0, draw(kOutputs * kInputs, 2));
        const Strided out(how.rows, kOutputs, 0);
        in.view.row(1)[place] = bad;
        weight.view.row(34)[kInputs - 1 - place] = bad;
        forward(*kernels, how, out.view, in.view, weight.view);
        for (std::int64_t r = 0; r < how.rows; ++r)
          for (std::int64_t c = 0; c < kOutputs; ++c)
            ASSERT_EQ(std::isfinite(out.view.row(r)[c]), r != 1 && c != 34)
                << bad << " " << how.rows << " " << r << " " << c;
      }
}

// Numbers whose last digits would be denormal ones lose these at most, and do not touch the others.
TEST(LinearFp32, TinyNumbersDisturbNone) {
  const auto kernels = make_cpu_kernels(Precision::fp32, 2);
  for (const Forward& how : kForwards)
    for (const int exponent : {-100, -112, -120, -126, -140}) {
      const std::int64_t m = how.rows, o = 33, i = 64;
      auto in = draw(m * i, 1);
      const auto weight = draw(o * i, 2);
      const double tiny = std::ldexp(1.0, exponent);
      for (std::size_t k = 0; k < in.size(); ++k)
        if (k / 16 % 2 == 1) in[k] = static_cast<float>(in[k] * tiny);
      const Strided in_(m, i, 0, in), weight_(o, i, 0, weight), out(m, o, 0);
      forward(*kernels, how, out.view, in_.view, weight_.view);
      EXPECT_TRUE((testing::all_close<float, double>(out.values(), reference::linear_forward(in, weight, {}, m, o, i),
                                                     2e-5, 0)));
    }
}

// Tall and wide outputs, blocks of the inner dimension and of rows that end within a tile, and more threads than tiles.
TEST(LinearFp32, AnyNumberOfThreadsAgreesWithTheOracle) {
  struct Shape {
    std::int64_t rows, outputs, inputs;
  };
  for (const auto& [m, o, i] : {Shape{70, 33, 900}, {33, 900, 70}, {900, 70, 33}, {433, 20, 40}}) {
    const auto in = draw(m * i, 1), weight = draw(o * i, 2), bias = draw(o, 3), dout = draw(m * o, 4);
    const auto expected = reference::linear_forward(in, weight, bias, m, o, i);
    const auto gradients = reference::linear_backward(dout, in, weight, m, o, i);
    const Strided in_(m, i, 3, in), weight_(o, i, 0, weight), bias_(1, o, 0, bias), dout_(m, o, 3, dout);
    for (const int threads : {1, 2, 3, 7, 64}) {
      const auto kernels = make_cpu_kernels(Precision::fp32, threads);
      const Strided out(m, o, 3), din(m, i, 3), dweight(o, i, 0);
      kernels->linear_forward(out.view, in_.view, weight_.view, bias_.view);
      kernels->linear_backward_input(din.view, dout_.view, weight_.view);
      kernels->linear_backward_weight(dweight.view, {}, dout_.view, in_.view);
      EXPECT_TRUE((testing::all_close<float, double>(out.values(), expected, 2e-4, 0))) << threads;
      EXPECT_TRUE((testing::all_close<float, double>(din.values(), gradients.in, 2e-4, 0))) << threads;
      EXPECT_TRUE((testing::all_close<float, double>(dweight.values(), gradients.weight, 2e-4, 0))) << threads;
      EXPECT_TRUE(out.intact() && din.intact() && dweight.intact());
    }
  }
}

}  // namespace
}  // namespace ember
