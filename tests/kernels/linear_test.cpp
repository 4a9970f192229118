// linear_forward and its two backward products against the double oracle, at TinyBERT's and awkward shapes.
#include "tests/reference/linear.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/kernels.h"
#include "runtime/philox.h"
#include "tests/kernels/strided.h"
#include "tests/support.h"

namespace ember {
namespace {

using testing::draw;
using Strided = testing::StridedMatrix;

struct Shape {
  std::int64_t rows, outputs, inputs;
};

const Shape kShapes[] = {{1, 1, 1},      {1, 28, 312},     {2, 3, 5},       {16, 312, 312}, {31, 33, 26},
                         {33, 936, 312}, {308, 1200, 312}, {65, 312, 1200}, {7, 64, 129},   {15, 31, 47}};

// A sum of n products of unit normals in fp32, in any order: n rounding errors of at most 2^-24 each, relative to the
// sum of the magnitudes, about n; in practice far less. 4 sqrt(n) 2^-24 times the largest partial sum covers it.
double tolerance(std::int64_t n) {
  return 4 * std::sqrt(static_cast<double>(n)) * 6e-8 * std::sqrt(static_cast<double>(n)) + 1e-6;
}

::testing::AssertionResult close(const std::vector<float>& actual, const std::vector<double>& expected, double atol,
                                 double rtol) {
  return testing::all_close<float, double>(actual, expected, atol, rtol);
}

class Linear : public ::testing::TestWithParam<std::tuple<Shape, int>> {};

TEST_P(Linear, AgreesWithTheOracle) {
  const auto [shape, gap] = GetParam();
  const auto [m, o, i] = shape;
  const auto in = draw(static_cast<std::size_t>(m * i), 1), weight = draw(static_cast<std::size_t>(o * i), 2),
             bias = draw(static_cast<std::size_t>(o), 3), dout = draw(static_cast<std::size_t>(m * o), 4);
  const auto kernels = make_cpu_kernels(Precision::fp32, 2);
  const Strided in_(m, i, gap, in), weight_(o, i, 0, weight), bias_(1, o, 0, bias), dout_(m, o, gap, dout);

  for (const bool with_bias : {true, false}) {
    const auto expected = reference::linear_forward(in, weight, with_bias ? bias : std::vector<double>{}, m, o, i);
    const Strided out(m, o, gap), again(m, o, gap);
    for (const Strided* to : {&out, &again})
      kernels->linear_forward(to->view, in_.view, weight_.view, with_bias ? bias_.view : Tensor{});
    EXPECT_TRUE(close(out.values(), expected, tolerance(i), 0));
    EXPECT_TRUE(out.intact());
    EXPECT_EQ(out.values(), again.values());
  }

  const auto gradients = reference::linear_backward(dout, in, weight, m, o, i);
  const Strided din(m, i, gap), dweight(o, i, 0), dbias(1, o, 0);
  kernels->linear_backward_input(din.view, dout_.view, weight_.view);
  EXPECT_TRUE(close(din.values(), gradients.in, tolerance(o), 0));
  kernels->linear_backward_weight(dweight.view, dbias.view, dout_.view, in_.view);
  EXPECT_TRUE(close(dweight.values(), gradients.weight, tolerance(m), 0));
  EXPECT_TRUE(close(dbias.values(), gradients.bias, tolerance(m), 0));
  EXPECT_TRUE(din.intact() && dweight.intact() && dbias.intact());
}

INSTANTIATE_TEST_SUITE_P(Shapes, Linear, ::testing::Combine(::testing::ValuesIn(kShapes), ::testing::Values(0, 13)));

// A frozen weight has a product of its own; another block at the same address and a thawed weight go the usual way.
TEST(LinearFrozen, AgreesWithTheOracle) {
  for (const std::int64_t m : {1, 2, 5, 6, 7, 12, 13, 20, 49, 308, 512}) {
    for (const auto& [o, i] : {std::pair<std::int64_t, std::int64_t>{28, 312}, {80, 1200}, {33, 7}, {1, 1}}) {
      const auto in = draw(static_cast<std::size_t>(m * i), 1), weight = draw(static_cast<std::size_t>(o * i), 2),
                 bias = draw(static_cast<std::size_t>(o), 3);
      const Strided in_(m, i, 5, in), weight_(o, i, 0, weight), bias_(1, o, 0, bias);
      const Strided one(m, o, 3), two(m, o, 3), plain(m, o, 3), block(m, 1, 3);
      const auto kernels = make_cpu_kernels(Precision::fp32, 2), alone = make_cpu_kernels(Precision::fp32, 1);
      for (Kernels* k : {kernels.get(), alone.get()}) k->freeze({&weight_.view, 1});
      kernels->linear_forward(one.view, in_.view, weight_.view, bias_.view);
      alone->linear_forward(two.view, in_.view, weight_.view, bias_.view);
      const auto expected = reference::linear_forward(in, weight, bias, m, o, i);
      EXPECT_TRUE(close(one.values(), expected, tolerance(i), 0)) << m << " x " << o << " x " << i;
      EXPECT_TRUE(one.intact());
      EXPECT_TRUE(one.values() == two.values()) << "the order of a sum depends on the threads";
      kernels->linear_forward(block.view, in_.view, weight_.view.row_block(0, 1), {});
      EXPECT_TRUE(close(block.values(),
                        reference::linear_forward(in, {weight.begin(), weight.begin() + i}, {}, m, 1, i), tolerance(i),
                        0));
      kernels->thaw({&weight_.view, 1});
      *weight_.view.f32() += 100;
      kernels->linear_forward(plain.view, in_.view, weight_.view, {});
      EXPECT_NEAR(plain.view.f32()[0], expected[0] - bias[0] + 100 * in[0], 100 * tolerance(i));
    }
  }
}

// Freezing again takes the weight as it is now, in whatever form the precision has for it.
TEST(LinearFrozen, AgainReplacesTheCopy) {
  for (const Precision precision : {Precision::fp32, Precision::int8}) {
    const auto kernels = make_cpu_kernels(precision, 1);
    const Strided in(3, 40, 0, draw(120, 1)), weight(33, 40, 0, draw(33 * 40, 2)), other(33, 40, 0, draw(33 * 40, 3));
    const Strided before(3, 33, 0), after(3, 33, 0), expected(3, 33, 0);
    for (const Strided* frozen : {&weight, &other}) kernels->freeze({&frozen->view, 1});
    kernels->linear_forward(before.view, in.view, weight.view, {});
    kernels->linear_forward(expected.view, in.view, other.view, {});
    std::copy_n(other.view.f32(), other.view.size(), weight.view.f32());
    kernels->linear_forward(after.view, in.view, weight.view, {});
    EXPECT_EQ(after.values(), before.values());
    kernels->freeze({&weight.view, 1});
    kernels->linear_forward(after.view, in.view, weight.view, {});
    EXPECT_EQ(after.values(), expected.values());
  }
}

// Fewer rows or columns that begin at the same address are another weight.
TEST(LinearFrozen, ABlockOfItIsNotFrozen) {
  const Strided in(3, 40, 0, draw(120, 1)), weight(70, 40, 0, draw(70 * 40, 2));
  const auto plain = make_cpu_kernels(Precision::fp32, 1);
  for (const Precision precision : {Precision::fp32, Precision::int8})
    for (const Tensor& block : {weight.view.row_block(0, 3), weight.view.columns(0, 20)}) {
      const auto kernels = make_cpu_kernels(precision, 1);
      kernels->freeze({&weight.view, 1});
      const Strided out(3, block.rows, 0), expected(3, block.rows, 0);
      kernels->linear_forward(out.view, in.view.columns(0, block.cols), block, {});
      plain->linear_forward(expected.view, in.view.columns(0, block.cols), block, {});
      EXPECT_EQ(out.values(), expected.values()) << block.rows << " x " << block.cols;
    }
}

// Bits are a backend's own: neither another one, made after it with other threads, nor the thread that calls it changes
// them. Of these products oneDNN shares out the sums, by the number of threads.
TEST(LinearThreads, AreTheBackendsOwn) {
  constexpr std::int64_t kRows = 2000, kOutputs = 28, kInputs = 312;
  const Strided dout(kRows, kOutputs, 0, draw(kRows * kOutputs, 1)), in(kRows, kInputs, 0, draw(kRows * kInputs, 2));
  const Strided expected(kOutputs, kInputs, 0), after(kOutputs, kInputs, 0), elsewhere(kOutputs, kInputs, 0);
  const auto kernels = make_cpu_kernels(Precision::fp32, 8);
  kernels->linear_backward_weight(expected.view, {}, dout.view, in.view);
  const auto other = make_cpu_kernels(Precision::fp32, 1);
  kernels->linear_backward_weight(after.view, {}, dout.view, in.view);
  EXPECT_TRUE(after.values() == expected.values());
  std::thread([&] { kernels->linear_backward_weight(elsewhere.view, {}, dout.view, in.view); }).join();
  EXPECT_TRUE(elsewhere.values() == expected.values());
}

// With bf16 where the processor has it; its weights are of no matter here.
std::vector<std::unique_ptr<Kernels>> all_kernels() {
  std::vector<std::unique_ptr<Kernels>> all;
  for (const Precision precision : {Precision::fp32, Precision::bf16})
    static_cast<void>(testing::error_of([&] { all.push_back(make_cpu_kernels(precision, 1)); }));
  return all;
}

TEST(LinearEdge, NoRowsGiveZeroGradients) {
  for (const auto& kernels : all_kernels()) {
    const Strided weight(4, 3, 0, draw(12, 1)), dweight(4, 3, 0), dbias(1, 4, 0);
    const Tensor none_in = matrix(weight.view.data, 0, 3), none_out = matrix(weight.view.data, 0, 4);
    kernels->linear_forward(none_out, none_in, weight.view, {});
    kernels->linear_backward_weight(dweight.view, dbias.view, none_out, none_in);
    EXPECT_EQ(dweight.values(), std::vector<float>(12, 0.0f));
    EXPECT_EQ(dbias.values(), std::vector<float>(4, 0.0f));
  }
}

TEST(LinearEdge, AnEmptySumIsZero) {
  for (const auto& kernels : all_kernels()) {
    const Strided out(2, 3, 1), bias(1, 3, 0, draw(3, 1));
    std::array<float, 6> memory{};
    const DType type = kernels->product_type();
    kernels->linear_forward(out.view, matrix(memory.data(), 2, 0), matrix(memory.data(), 3, 0, type), bias.view);
    const std::vector<float> row = bias.values();
    EXPECT_EQ(out.values(), (std::vector<float>{row[0], row[1], row[2], row[0], row[1], row[2]}));
    kernels->linear_backward_input(out.view, matrix(memory.data(), 2, 0), matrix(memory.data(), 0, 3, type));
    EXPECT_EQ(out.values(), std::vector<float>(6, 0.0f));
    EXPECT_TRUE(out.intact());
  }
}

// Operands that end with their memory, as AddressSanitizer knows, within a tile and a vector.
TEST(LinearEdge, NothingIsReadBehindTheOperands) {
  constexpr std::int64_t kRows = 21, kOutputs = 20, kInputs = 19;
  for (const auto& kernels : all_kernels()) {
    std::vector<float> in(kRows * kInputs, 1), dout(kRows * kOutputs, 1), weight(kOutputs * kInputs, 1);
    std::vector<float> bias(kOutputs, 1), out(dout), din(in), dweight(weight);
    std::vector<std::uint16_t> rounded(weight.size());
    const Tensor in_ = matrix(in.data(), kRows, kInputs), dout_ = matrix(dout.data(), kRows, kOutputs),
                 whole = matrix(weight.data(), kOutputs, kInputs),
                 working = matrix(rounded.data(), kOutputs, kInputs, DType::bf16);
    kernels->round_weights(working, whole);
    const Tensor weight_ = kernels->product_type() == DType::bf16 ? working : whole;
    kernels->linear_forward(matrix(out.data(), kRows, kOutputs), in_, weight_, matrix(bias.data(), 1, kOutputs));
    kernels->linear_backward_input(matrix(din.data(), kRows, kInputs), dout_, weight_);
    kernels->linear_backward_weight(matrix(dweight.data(), kOutputs, kInputs), {}, dout_, in_);
    EXPECT_EQ(out, std::vector<float>(out.size(), kInputs + 1));
    EXPECT_EQ(din, std::vector<float>(din.size(), kOutputs));
    EXPECT_EQ(dweight, std::vector<float>(dweight.size(), kRows));
  }
}

TEST(LinearEdge, WrongShapesAreRefused) {
  const auto kernels = make_cpu_kernels(Precision::fp32, 1);
  const Strided a(2, 3, 0), b(4, 5, 0), c(2, 4, 0);
  EXPECT_THROW(kernels->linear_forward(c.view, a.view, b.view, {}), std::logic_error);
  const Strided weight(4, 3, 0), bias(1, 4, 0), short_bias(1, 3, 0);  // of 2 rows of 3 inputs, and 4 outputs
  EXPECT_NO_THROW(kernels->linear_forward(c.view, a.view, weight.view, bias.view));
  EXPECT_THROW(kernels->linear_forward(c.view, a.view, weight.view, short_bias.view), std::logic_error);
  EXPECT_NO_THROW(kernels->linear_backward_input(a.view, c.view, weight.view));
  EXPECT_THROW(kernels->linear_backward_input(c.view, c.view, weight.view), std::logic_error);
  EXPECT_NO_THROW(kernels->linear_backward_weight(weight.view, bias.view, c.view, a.view));
  EXPECT_THROW(kernels->linear_backward_weight(b.view, bias.view, c.view, a.view), std::logic_error);
  EXPECT_THROW(kernels->linear_backward_weight(weight.view, short_bias.view, c.view, a.view), std::logic_error);
  std::vector<std::uint16_t> memory(12);
  const Tensor half = matrix(memory.data(), 2, 3, DType::f16), half_out = matrix(memory.data(), 2, 4, DType::f16);
  EXPECT_THROW(kernels->linear_backward_input(half, c.view, weight.view), std::logic_error);
  EXPECT_THROW(kernels->linear_backward_input(a.view, half_out, weight.view), std::logic_error);
  EXPECT_THROW(kernels->linear_backward_weight(weight.view, {}, c.view, half), std::logic_error);
  EXPECT_THROW(kernels->round_weights(matrix(memory.data(), 3, 4, DType::bf16), weight.view), std::logic_error);
}

// Numbers and the nearest bf16, of two the even one.
struct Rounded {
  float number, nearest;
};
const Rounded kRounded[] = {{1.0f, 1.0f},
                            {1.00390625f, 1.0f},
                            {1.01171875f, 1.015625f},
                            {1.005f, 1.0078125f},
                            {-1.00390625f, -1.0f},
                            {-1.005f, -1.0078125f},
                            {0x1.ffp127f, std::numeric_limits<float>::infinity()},
                            {0.0f, 0.0f},
                            {-0.0f, -0.0f}};
// Rounded like numbers, these would become infinity or zero.
constexpr std::uint32_t kNans[] = {0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF};

// By kernels for fp32 too, where any processor may test it.
TEST(LinearEdge, WeightsAreRoundedToTheNearest) {
  std::vector<float> values = {0x1p-130f}, expected = {0x1p-130f};
  for (const auto& [number, nearest] : kRounded) values.push_back(number), expected.push_back(nearest);
  for (const std::uint32_t nan : kNans) {
    values.push_back(std::bit_cast<float>(nan));
    expected.push_back(std::bit_cast<float>((nan | 0x400000) & 0xFFFF0000));
  }
  const auto size = static_cast<std::int64_t>(values.size());
  std::vector<std::uint16_t> rounded(values.size());
  make_cpu_kernels(Precision::fp32, 1)
      ->round_weights(matrix(rounded.data(), 1, size, DType::bf16), matrix(values.data(), 1, size));
  for (std::size_t i = 0; i < values.size(); ++i)
    EXPECT_EQ(std::uint32_t{rounded[i]} << 16, std::bit_cast<std::uint32_t>(expected[i])) << values[i];
}

double distance(const std::vector<float>& actual, const std::vector<double>& expected) {
  return testing::relative_l2<float, double>(actual, expected);
}

// Of products by one, activations and both gradients leave just what they were rounded to. Denormal numbers count as
// zero, also the largest one, whose nearest bf16 is none.
TEST(LinearBf16, ActivationsAreRoundedToTheNearest) {
  std::unique_ptr<Kernels> kernels;
  if (const std::string error = testing::error_of([&] { kernels = make_cpu_kernels(Precision::bf16, 1); }); !kernels)
    GTEST_SKIP() << error;
  std::vector<double> values = {0x1.fffffcp-127f};
  std::vector<float> expected = {0};
  for (const auto& [number, nearest] : kRounded) values.push_back(number), expected.push_back(nearest);
  for (const std::uint32_t nan : kNans) values.push_back(0), expected.push_back(std::bit_cast<float>(nan));
  const auto size = static_cast<std::int64_t>(values.size());
  const Strided column(size, 1, 0, values), row(1, size, 0, values), one(1, 1, 0, {1.0});
  for (std::size_t i = 0; i < values.size(); ++i)  // NaNs as they are, which a double would make quiet
    if (std::isnan(expected[i])) column.view.f32()[i] = row.view.f32()[i] = expected[i];
  std::uint16_t one_rounded = 0;
  const Tensor weight = matrix(&one_rounded, 1, 1, DType::bf16);
  kernels->round_weights(weight, one.view);
  const Strided out(size, 1, 0), din(size, 1, 0), of_gradients(size, 1, 0), of_inputs(1, size, 0);
  kernels->linear_forward(out.view, column.view, weight, {});
  kernels->linear_backward_input(din.view, column.view, weight);
  kernels->linear_backward_weight(of_gradients.view, {}, row.view, one.view);
  kernels->linear_backward_weight(of_inputs.view, {}, one.view, row.view);
  for (const Strided* results : {&out, &din, &of_gradients, &of_inputs})
    for (std::size_t i = 0; i < values.size(); ++i) {
      const float actual = results->values()[i];
      EXPECT_TRUE(actual == expected[i] || (std::isnan(actual) && std::isnan(expected[i])))
          << actual << " for " << column.view.f32()[i];
    }
}

// bf16 products lose 8 of 24 bits: each factor is off by 2^-9 of itself at most.
TEST(LinearBf16, AgreesWithTheOracleWhereTheProcessorHasIt) {
  std::unique_ptr<Kernels> kernels;
  try {
    kernels = make_cpu_kernels(Precision::bf16, 7);
  } catch (const Error& error) {
    ASSERT_NE(std::string(error.what()).find("bf16"), std::string::npos);
    GTEST_SKIP() << error.what();
  }
  const auto alone = make_cpu_kernels(Precision::bf16, 1);
  // The last three are more rows and a larger inner dimension than a block.
  for (const auto& [m, o, i] : {Shape{33, 40, 312},
                                {1, 28, 312},
                                {308, 312, 65},
                                {13, 33, 1200},
                                {7, 5, 3},
                                {24, 64, 32},
                                {15, 31, 47},
                                {390, 17, 1300},
                                {33, 1300, 20},
                                {1300, 20, 33}})
    for (const int gap : {0, 6}) {
      const auto in = draw(m * i, 1), weight = draw(o * i, 2), bias = draw(o, 3), dout = draw(m * o, 4);
      const Strided in_(m, i, gap, in), weight_(o, i, 0, weight), bias_(1, o, 0, bias), dout_(m, o, gap, dout);
      std::vector<std::uint16_t> memory(static_cast<std::size_t>(o * i));
      const Tensor working = matrix(memory.data(), o, i, DType::bf16);
      kernels->round_weights(working, weight_.view);
      const Strided out(m, o, gap), frozen(m, o, gap), din(m, i, gap), dweight(o, i, 0), dbias(1, o, 0),
          out_alone(m, o, gap), din_alone(m, i, gap), dweight_alone(o, i, 0);
      kernels->linear_forward(out.view, in_.view, working, bias_.view);
      kernels->linear_backward_input(din.view, dout_.view, working);
      kernels->linear_backward_weight(dweight.view, dbias.view, dout_.view, in_.view);
      alone->linear_forward(out_alone.view, in_.view, working, bias_.view);
      alone->linear_backward_input(din_alone.view, dout_.view, working);
      alone->linear_backward_weight(dweight_alone.view, dbias.view, dout_.view, in_.view);
      kernels->freeze({&working, 1});
      kernels->linear_forward(frozen.view, in_.view, working, bias_.view);
      kernels->thaw({&working, 1});
      const auto gradients = reference::linear_backward(dout, in, weight, m, o, i);
      // Rounded as they should be, these are off by 0.0022 to 0.0029; with one factor cut instead up to 0.0037, with
      // both 0.0052 and more.
      const double bound = 0.0032;
      EXPECT_LT(distance(out.values(), reference::linear_forward(in, weight, bias, m, o, i)), bound) << m << " " << i;
      EXPECT_LT(distance(din.values(), gradients.in), bound);
      EXPECT_LT(distance(dweight.values(), gradients.weight), bound);
      EXPECT_LT(distance(dbias.values(), gradients.bias), 1e-6);
      EXPECT_EQ(out.values(), frozen.values());
      EXPECT_EQ(out.values(), out_alone.values()) << "sums depend on the threads";
      EXPECT_EQ(din.values(), din_alone.values());
      EXPECT_EQ(dweight.values(), dweight_alone.values());
      EXPECT_TRUE(out.intact() && frozen.intact() && din.intact() && dweight.intact());
    }
}

// Inputs of 0 to 254 with both in every row, and weights of which one in a row is 127 and no four that are added in 16
// bits (int8_product.h) have more of one sign, are their own quantised form (scales 1, offsets 0): the outputs are the
// integer sums themselves. `extreme`: the largest inputs and weights of one size.
struct Integers {
  Integers(std::int64_t m, std::int64_t o, std::int64_t i, bool extreme) : in(m * i), weight(o * i) {
    const auto at = [&](auto& values, std::int64_t row) { return values.begin() + row * i; };
    for (std::size_t n = 0; n < in.size(); ++n)
      in[n] = extreme ? 254 : static_cast<int>(random_block(1, 0, 0, n)[0] % 255);
    for (std::size_t n = 0; n < weight.size(); ++n)
      weight[n] = extreme ? (n % 3 == 0 ? -31 : 31) : static_cast<int>(random_block(2, 0, 0, n)[0] % 63) - 31;
    for (std::int64_t r = 0; r < m; ++r) *at(in, r) = 0, *(at(in, r + 1) - 1) = 254;
    for (std::int64_t r = 0; r < o; ++r) {
      for (std::int64_t n = 0; n < std::min<std::int64_t>(i, 8); ++n) at(weight, r)[n] = -std::abs(at(weight, r)[n]);
      at(weight, r)[r % std::min<std::int64_t>(i, 8)] = 127;
    }
    sums.resize(static_cast<std::size_t>(m * o));
    for (std::int64_t r = 0; r < m; ++r)
      for (std::int64_t c = 0; c < o; ++c)
        sums[static_cast<std::size_t>(r * o + c)] =
            static_cast<float>(std::inner_product(at(in, r), at(in, r + 1), at(weight, c), std::int64_t{0}));
  }
  std::vector<int> in, weight;
  std::vector<float> sums;
};

std::vector<double> doubles(const std::vector<int>& values) {
  return {values.begin(), values.end()};
}

// The bias, integers too, joins what is still below 2^24 and so exact.
TEST(LinearInt8, SumsAreThoseOfIntegers) {
  for (const std::int64_t m : {1, 2, 5, 12, 13, 20, 49}) {
    for (const auto& [o, i] : {std::pair<std::int64_t, std::int64_t>{28, 312}, {312, 1200}, {33, 7}, {2, 2}, {64, 5}}) {
      for (const bool extreme : {false, true}) {
        const Integers numbers(m, o, i, extreme);
        const Strided in(m, i, 5, doubles(numbers.in)), weight(o, i, 0, doubles(numbers.weight)), bias(1, o, 0);
        for (std::int64_t c = 0; c < o; ++c) bias.view.f32()[c] = static_cast<float>(1000 + c);
        std::vector<float> with_bias = numbers.sums;
        for (std::size_t n = 0; n < with_bias.size(); ++n)
          with_bias[n] += bias.view.f32()[n % static_cast<std::size_t>(o)];
        for (const int threads : {1, 2}) {
          const auto kernels = make_cpu_kernels(Precision::int8, threads);
          kernels->freeze({&weight.view, 1});
          const Strided out(m, o, 3);
          kernels->linear_forward(out.view, in.view, weight.view, {});
          EXPECT_EQ(out.values(), numbers.sums) << m << " x " << o << " x " << i << ", extreme " << extreme;
          kernels->linear_forward(out.view, in.view, weight.view, bias.view);
          EXPECT_EQ(out.values(), with_bias) << m << " x " << o << " x " << i << " and a bias";
          EXPECT_TRUE(out.intact());
        }
      }
    }
  }
}

// Four products of the largest numbers are 129,032 together; 16 bits hold a quarter of it.
TEST(LinearInt8, TheLargestWeightsDoNotSaturate) {
  constexpr std::int64_t kInputs = 64;
  const auto kernels = make_cpu_kernels(Precision::int8, 1);
  std::vector<double> weight(4 * kInputs);
  for (std::size_t n = 0; n < weight.size(); ++n) {
    const std::size_t row = n / kInputs, i = n % kInputs;
    weight[n] = row == 0 || (row == 2 && i % 2 == 0) || (row == 3 && i >= kInputs / 2) ? 127 : -127;
  }
  std::vector<double> in(kInputs, 254);
  in[0] = 0;
  const Strided in_(1, kInputs, 0, in), weight_(4, kInputs, 0, weight), out(1, 4, 0);
  kernels->freeze({&weight_.view, 1});
  kernels->linear_forward(out.view, in_.view, weight_.view, {});
  const double largest = 254.0 * 127 * (kInputs - 1);
  for (std::int64_t o = 0; o < 4; ++o) {
    const double expected = std::inner_product(in.begin(), in.end(), weight.begin() + o * kInputs, 0.0);
    EXPECT_NEAR(out.view.f32()[o], expected, 0.01 * largest) << o;
  }
}

// A scale of denormal weights has few bits: of four that are added in 16 bits it may leave more than these hold.
TEST(LinearInt8, DenormalWeightsKeepTheirSigns) {
  const auto kernels = make_cpu_kernels(Precision::int8, 1);
  const Strided in(2, 8, 0, {1e20, 0, 0, 0, 0, 0, 0, 0, 1e20, 1e20, 0, 0, 1e20, 1e20, 0, 0}), out(2, 2, 0);
  std::vector<double> weights = {186, -186, 0, 0, 0, 0, 0, 0, 100, 100, 0, 0, 100, 100, 0, 0};
  for (double& weight : weights) weight *= 0x1p-149;
  const Strided weight(2, 8, 0, weights);
  kernels->freeze({&weight.view, 1});
  kernels->linear_forward(out.view, in.view, weight.view, {});
  EXPECT_GT(out.view.row(0)[0], 0);
  EXPECT_GT(out.view.row(1)[1], 0);
}

// A weight is off by half a step of max |w| / 127, an input by half of (max - min) / 254. Unit normals lie within 4 or
// so, hence steps of about 0.03 and errors of 0.03 / sqrt(12) of either factor: 1.3% of a sum together. Where four
// weights have 127 together, they are 6 or so and the step is 0.05: 1.6% with the inputs'.
TEST(LinearInt8, AgreesWithTheOracle) {
  for (const std::int64_t m : {1, 20, 65}) {
    const std::int64_t o = 40, i = 312;
    auto in = draw(m * i, 1);
    for (double& x : in) x += 3;  // the offset of a row counts
    const auto weight = draw(o * i, 2), bias = draw(o, 3);
    const Strided in_(m, i, 0, in), weight_(o, i, 0, weight), bias_(1, o, 0, bias), out(m, o, 0), thawed(m, o, 0);
    const auto kernels = make_cpu_kernels(Precision::int8, 2);
    kernels->freeze({&weight_.view, 1});
    kernels->linear_forward(out.view, in_.view, weight_.view, bias_.view);
    const auto expected = reference::linear_forward(in, weight, bias, m, o, i);
    const double error = distance(out.values(), expected);
    EXPECT_LT(error, 0.02);
    EXPECT_GT(error, 1e-4);  // or it was computed in fp32
    kernels->thaw({&weight_.view, 1});
    kernels->linear_forward(thawed.view, in_.view, weight_.view, bias_.view);
    EXPECT_TRUE(close(thawed.values(), expected, 4 * tolerance(i), 0));
  }
}

// 65,536 of the largest products are what 32 bits hold; a weight of more inputs stays in fp32.
TEST(LinearInt8, AsManyInputsAsItsSumsHold) {
  constexpr std::int64_t kMost = 65536;
  const auto kernels = make_cpu_kernels(Precision::int8, 1);
  for (const std::int64_t i : {kMost, kMost + 1, kMost + 10000}) {
    auto weight = draw(3 * i, 1), in = draw(2 * i, 2);
    std::fill_n(weight.begin(), i, 127.0), std::fill_n(weight.begin() + i, i, -127.0);
    std::fill_n(in.begin(), i, 254.0), in[0] = 0;
    const Strided in_(2, i, 0, in), weight_(3, i, 0, weight), out(2, 3, 0);
    kernels->freeze({&weight_.view, 1});
    kernels->linear_forward(out.view, in_.view, weight_.view, {});
    const auto expected = reference::linear_forward(in, weight, std::vector<double>(3), 2, 3, i);
    for (const std::size_t o : {0, 1}) EXPECT_NEAR(out.values()[o] / expected[o], 1, 0.01) << i;
    // Rounding to 8 bits shows in the sum of small numbers, and not in one that was computed in fp32.
    const double error = std::fabs(out.values()[5] - expected[5]) / std::sqrt(static_cast<double>(i));
    EXPECT_EQ(error > 1e-4, i == kMost) << i << ": " << error;
  }
}

TEST(LinearInt8, ConstantRowsAreExactAndDefectsStay) {
  const auto kernels = make_cpu_kernels(Precision::int8, 1);
  for (const double defect : {std::nan(""), HUGE_VAL, -HUGE_VAL}) {
    auto in = draw(3 * 21, 1), weight = draw(4 * 21, 2);
    std::fill_n(in.begin(), 21, 2.5);
    in[2 * 21 + 20] = defect, weight[3 * 21 + 20] = defect;
    std::fill_n(weight.begin() + 2 * 21, 21, 0.0);
    const Strided in_(3, 21, 0, in), weight_(4, 21, 0, weight), out(3, 4, 0);
    kernels->freeze({&weight_.view, 1});
    kernels->linear_forward(out.view, in_.view, weight_.view, {});
    EXPECT_NEAR(out.view.f32()[0], 2.5 * std::accumulate(weight.begin(), weight.begin() + 21, 0.0), 0.5);
    EXPECT_EQ(out.view.row(0)[2], 0);
    EXPECT_EQ(out.view.row(1)[2], 0);
    for (std::int64_t r = 0; r < 3; ++r)
      for (std::int64_t c = 0; c < 4; ++c) EXPECT_EQ(std::isnan(out.view.row(r)[c]), r == 2 || c == 3) << r << " " << c;
  }
}

}  // namespace
}  // namespace ember
