// What a linear layer's products in fp32 owe to the format, whatever they are made of (kernels/cpu/linear_products.h):
// digits, not-a-numbers, tiny numbers, and that any number of threads may share them.
#include <gtest/gtest.h>
#include <omp.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
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

// Numbers from 1 to 2, times a power of two.
std::vector<double> draw_like(double power, std::int64_t size, unsigned seed) {
  std::vector<double> values = draw(size, seed);
  for (double& value : values) value = power * static_cast<float>(1 + std::fabs(value) / 8);
  return values;
}

// The largest error of products of one number each, relative to the product.
double error_of_products(const Forward& how, double in_power, double weight_power) {
  const auto kernels = make_cpu_kernels(Precision::fp32, 2);
  constexpr std::int64_t kOutputs = 70;
  const auto in = draw_like(in_power, how.rows, 1), weight = draw_like(weight_power, kOutputs, 2);
  const Strided in_(how.rows, 1, 2, in), weight_(kOutputs, 1, 0, weight), out(how.rows, kOutputs, 3);
  forward(*kernels, how, out.view, in_.view, weight_.view);
  EXPECT_TRUE(out.intact());
  double worst = 0;
  for (std::int64_t r = 0; r < how.rows; ++r)
    for (std::int64_t c = 0; c < kOutputs; ++c) {
      const double exact = in[static_cast<std::size_t>(r)] * weight[static_cast<std::size_t>(c)];
      worst = std::max(worst, std::fabs(out.view.row(r)[c] - exact) / std::fabs(exact));
    }
  return worst;
}

// A float's 24 digits, but for the last. Parts of a float that were left out would show as 2^-16. Below 2^-102, of an
// operand or the product, what linear_products.h says.
TEST(LinearFp32, OneProductHasTheDigitsOfAFloat) {
  const auto power = [](int exponent) { return std::ldexp(1.0, exponent); };
  for (const Forward& how : kForwards) {
    for (const auto& [in, weight] : {std::pair{0, 0}, {-102, 102}, {102, -102}, {-51, -51}, {60, 60}})
      EXPECT_LE(error_of_products(how, power(in), power(weight)), power(-23)) << in << " " << weight;
    for (const auto& [exponent, bits] : {std::pair{-110, 15}, {-118, 7}}) {
      EXPECT_LE(error_of_products(how, power(exponent), 1), power(-bits)) << exponent;
      EXPECT_LE(error_of_products(how, power(exponent / 2), power(exponent / 2)), power(-bits)) << exponent;
    }
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
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::bit_cast<float>(0x7FFFFFFFu), std::bit_cast<float>(0xFFFFFFFFu),
        std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()})
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

// Numbers whose last digits would be denormal ones do not touch those that they are paired with.
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
  for (const auto& [m, o, i] : {Shape{70, 33, 430}, {33, 430, 70}, {430, 70, 33}, {400, 20, 440}}) {
    const auto in = draw(m * i, 1), weight = draw(o * i, 2), bias = draw(o, 3), dout = draw(m * o, 4);
    const auto expected = reference::linear_forward(in, weight, bias, m, o, i);
    const auto gradients = reference::linear_backward(dout, in, weight, m, o, i);
    const Strided in_(m, i, 3, in), weight_(o, i, 0, weight), bias_(1, o, 0, bias), dout_(m, o, 3, dout);
    std::vector<float> by_one[3];
    for (const int threads : {1, 2, 7, 64}) {
      const auto kernels = make_cpu_kernels(Precision::fp32, threads);
      const Strided out(m, o, 3), din(m, i, 3), dweight(o, i, 0);
      kernels->linear_forward(out.view, in_.view, weight_.view, bias_.view);
      kernels->linear_backward_input(din.view, dout_.view, weight_.view);
      kernels->linear_backward_weight(dweight.view, {}, dout_.view, in_.view);
      EXPECT_TRUE((testing::all_close<float, double>(out.values(), expected, 2e-4, 0))) << threads;
      EXPECT_TRUE((testing::all_close<float, double>(din.values(), gradients.in, 2e-4, 0))) << threads;
      EXPECT_TRUE((testing::all_close<float, double>(dweight.values(), gradients.weight, 2e-4, 0))) << threads;
      EXPECT_TRUE(out.intact() && din.intact() && dweight.intact());
      const std::vector<float> results[3] = {out.values(), din.values(), dweight.values()};
      const bool same_bits = kernels->device_name().ends_with("AMX)");  // sgemm shares out the sums
      for (int p = 0; p < 3; ++p) {
        if (threads == 1) by_one[p] = results[p];
        EXPECT_TRUE(!same_bits || results[p] == by_one[p]) << threads << " threads give other bits";
      }
    }
  }
}

// OpenMP's settings, which a test changes, as they were.
struct OpenMpSettings {
  int levels = omp_get_max_active_levels(), dynamic = omp_get_dynamic();
  ~OpenMpSettings() {
    omp_set_max_active_levels(levels);
    omp_set_dynamic(dynamic);
  }
};

// A program may let OpenMP give fewer threads than are asked for (so do OMP_DYNAMIC, OMP_MAX_ACTIVE_LEVELS and
// OMP_THREAD_LIMIT). oneDNN leaves out the shares of those that are missing.
TEST(LinearFp32, WithThreadsThatAreNotGivenNothingIsLeftOut) {
  const std::int64_t m = 77, o = 312, i = 100;
  const auto in = draw(m * i, 1), weight = draw(o * i, 2), dout = draw(m * o, 3);
  const auto expected = reference::linear_forward(in, weight, {}, m, o, i);
  const auto gradients = reference::linear_backward(dout, in, weight, m, o, i);
  const Strided in_(m, i, 0, in), weight_(o, i, 0, weight), dout_(m, o, 0, dout);
  const auto kernels = make_cpu_kernels(Precision::fp32, 64);
  const auto expect_all = [&](const char* where) {
    const Strided out(m, o, 0), din(m, i, 0), dweight(o, i, 0);
    kernels->linear_forward(out.view, in_.view, weight_.view, {});
    kernels->linear_backward_input(din.view, dout_.view, weight_.view);
    kernels->linear_backward_weight(dweight.view, {}, dout_.view, in_.view);
    EXPECT_TRUE((testing::all_close<float, double>(out.values(), expected, 2e-4, 0))) << where;
    EXPECT_TRUE((testing::all_close<float, double>(din.values(), gradients.in, 2e-4, 0))) << where;
    EXPECT_TRUE((testing::all_close<float, double>(dweight.values(), gradients.weight, 2e-4, 0))) << where;
  };
  const OpenMpSettings before;
  omp_set_max_active_levels(0);
  expect_all("no parallel region at all");
  omp_set_max_active_levels(1);
  omp_set_dynamic(1);
  expect_all("as many threads as are idle");
  EXPECT_NE(omp_get_dynamic(), 0) << "the program's setting";
  omp_set_dynamic(0);
#pragma omp parallel num_threads(2)
#pragma omp master
  expect_all("within a parallel region");
  omp_set_max_active_levels(2);
#pragma omp teams num_teams(1) thread_limit(5)
#pragma omp parallel num_threads(2)
#pragma omp master
  expect_all("within one that may have others within, of so many threads together");
}

TEST(LinearFp32, GradientsOfNoOutputsOrInputsAreNone) {
  const auto kernels = make_cpu_kernels(Precision::fp32, 2);
  const Strided some(3, 5, 0, draw(15, 1));
  const Tensor none = matrix(some.view.data, 3, 0);
  EXPECT_NO_THROW(kernels->linear_backward_weight(matrix(some.view.data, 0, 5), {}, none, some.view));
  EXPECT_NO_THROW(kernels->linear_backward_weight(matrix(some.view.data, 5, 0), {}, some.view, none));
}

}  // namespace
}  // namespace ember
