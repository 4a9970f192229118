// linear_* on the device against the double oracle and CpuKernels.
#include "tests/reference/linear.h"

#include <gtest/gtest.h>

#include <cmath>
#include <stdexcept>

#include "tests/cuda/cuda_support.h"
#include "tests/cuda/product_error.h"

namespace ember {
namespace {

using namespace testing;

struct LinearCase {
  std::string name;
  std::int64_t rows, outputs, inputs;
  DType out_type = kHalf;
  float scale = 1, dscale = 1;
};

const LinearCase kLinearCases[] = {
    {"empty", 0, 312, 312},
    {"one_row", 1, 312, 312},
    {"two_rows", 2, 32, 30},
    {"tinybert_queries", 33, 936, 312},
    {"classifier", 16, 28, 312, kFloat},
    {"ffn", 31, 1200, 312},
    {"ffn_out", 32, 312, 1200},
    {"bert", 33, 768, 384},
    {"awkward", 129, 13, 30},
    {"seventeen_rows", 17, 104, 312},
    {"many_rows", 1100, 8, 16},
    {"large", 33, 28, 64, kHalf, 35, 60},  // sums of 64 and of 28 products up to 50,000
    {"small", 33, 28, 312, kHalf, 1e-2f, 1e-4f},
};

class Linear : public ::testing::TestWithParam<LinearCase> {
 protected:
  const std::int64_t rows = GetParam().rows, outputs = GetParam().outputs, inputs = GetParam().inputs;
  const DType out_type = GetParam().out_type;
  const float scale = GetParam().scale, dscale = GetParam().dscale;
  const std::vector<double> in = draw_halves(rows * inputs, 1, scale), weight = draw_halves(outputs * inputs, 2, scale),
                            bias = draw_halves(outputs, 3, scale), dout = draw_halves(rows * outputs, 4, dscale);

  // out with the bias, out without
  Results forward(Layout layout) const {
    const DeviceMatrix in_(kHalf, rows, inputs, in, layout), weight_(kHalf, outputs, inputs, weight),
        bias_(out_type, 1, outputs, bias), out(out_type, rows, outputs, {}, layout),
        plain(out_type, rows, outputs, {}, layout);
    testing::device().linear_forward(out.view, in_.view, weight_.view, bias_.view);
    testing::device().linear_forward(plain.view, in_.view, weight_.view, {});
    return device_results({&out, &plain});
  }
  // din, dweight, dbias, dweight alone
  Results backward(Layout layout) const {
    const DeviceMatrix in_(kHalf, rows, inputs, in, layout), weight_(kHalf, outputs, inputs, weight),
        dout_(kHalf, rows, outputs, dout, layout), din(kHalf, rows, inputs, {}, layout),
        dweight(kFloat, outputs, inputs), dbias(kFloat, 1, outputs), alone(kFloat, outputs, inputs);
    CudaKernels& kernels = testing::device();
    kernels.linear_backward_input(din.view, dout_.view, weight_.view);
    kernels.linear_backward_weight(dweight.view, dbias.view, dout_.view, in_.view);
    kernels.linear_backward_weight(alone.view, {}, dout_.view, in_.view);
    return device_results({&din, &dweight, &dbias, &alone});
  }
  // out, din, dweight, dbias
  Results cpu() const {
    const StridedMatrix in_(rows, inputs, 0, in), weight_(outputs, inputs, 0, weight), bias_(1, outputs, 0, bias),
        dout_(rows, outputs, 0, dout), out(rows, outputs, 0), din(rows, inputs, 0), dweight(outputs, inputs, 0),
        dbias(1, outputs, 0);
    const auto kernels = make_cpu_kernels(Precision::fp32, 1);
    kernels->linear_forward(out.view, in_.view, weight_.view, bias_.view);
    kernels->linear_backward_input(din.view, dout_.view, weight_.view);
    kernels->linear_backward_weight(dweight.view, dbias.view, dout_.view, in_.view);
    return testing::results({&out, &din, &dweight, &dbias});
  }
  std::vector<float> stored(const std::vector<float>& values) const {
    return out_type == kHalf ? to_halves(values) : values;
  }

  void expect_forward(const Results& actual) const;
  void expect_backward(const Results& actual) const;
};

double product_floor(std::int64_t terms, double size) {
  return testing::product_error(terms, size) + kSmallestHalf;
}
// Column sums in f32, in another order than the twin's: a few 1e-7 of the sum of sizes.
double sum_floor(std::int64_t terms, double size) {
  return 1e-6 * size * (1 + static_cast<double>(terms) / 8);
}

void Linear::expect_forward(const Results& actual) const {
  const double floor = product_floor(inputs, scale * scale);
  const auto twin =
      stored(reference::linear_forward<float>(floats(in), floats(weight), floats(bias), rows, outputs, inputs));
  const auto plain = stored(reference::linear_forward<float>(floats(in), floats(weight), {}, rows, outputs, inputs));
  EXPECT_TRUE(
      near_twin(actual[0], twin, reference::linear_forward<double>(in, weight, bias, rows, outputs, inputs), floor));
  EXPECT_TRUE(
      near_twin(actual[1], plain, reference::linear_forward<double>(in, weight, {}, rows, outputs, inputs), floor));
  EXPECT_TRUE(near_twin(actual[0], twin, doubles(cpu()[0]), floor));
}

void Linear::expect_backward(const Results& actual) const {
  const Results from_cpu = cpu();
  const auto twin = reference::linear_backward<float>(floats(dout), floats(in), floats(weight), rows, outputs, inputs);
  const auto exact = reference::linear_backward<double>(dout, in, weight, rows, outputs, inputs);
  const double in_floor = product_floor(outputs, scale * dscale), weight_floor = product_floor(rows, scale * dscale),
               bias_floor = sum_floor(rows, dscale);
  EXPECT_TRUE(near_twin(actual[0], to_halves(twin.in), exact.in, in_floor));
  EXPECT_TRUE(near_twin(actual[0], to_halves(twin.in), doubles(from_cpu[1]), in_floor));
  EXPECT_TRUE(near_twin(actual[1], twin.weight, exact.weight, weight_floor));
  EXPECT_TRUE(near_twin(actual[1], twin.weight, doubles(from_cpu[2]), weight_floor));
  EXPECT_TRUE(near_twin(actual[2], twin.bias, exact.bias, bias_floor));
  EXPECT_TRUE(near_twin(actual[2], twin.bias, doubles(from_cpu[3]), bias_floor));
  EXPECT_TRUE(near_twin(actual[3], twin.weight, exact.weight, weight_floor));
}

TEST_P(Linear, ForwardAgreesWithTheOracleAndTheCpu) {
  expect_forward(testing::run_twice([&] { return forward({}); }));
}

TEST_P(Linear, BackwardAgreesWithTheOracleAndTheCpu) {
  expect_backward(testing::run_twice([&] { return backward({}); }));
}

// Products may then have another algorithm, whose sums have another order; column sums have one for all.
TEST_P(Linear, RowsMayLieApart) {
  expect_forward(testing::run_twice([&] { return forward({8, 8}); }));
  const Results apart = testing::run_twice([&] { return backward({8, 8}); });
  expect_backward(apart);
  EXPECT_EQ(apart[2], backward({})[2]);
}

INSTANTIATE_TEST_SUITE_P(Shapes, Linear, ::testing::ValuesIn(kLinearCases),
                         [](const auto& tested) { return tested.param.name; });

// Ours takes what the device at hand has room for: a GPU may start grids early and have less shared memory than an
// H100.
TEST(FewRowsProduct, IsForProductsThatAreOnTheDeviceAtOnce) {
  testing::device();
  const bool early = starts_early();
  DeviceInfo device;
  device.multiprocessors = 132;
  device.shared_memory = 227 << 10;
  const DeviceMatrix in(kHalf, 288, 312), wide(kHalf, 288, 1200), weight(kHalf, 1200, 312), out(kHalf, 288, 312),
      many(kHalf, 3000, 312), many_out(kHalf, 3000, 1200), odd(kHalf, 288, 1199), floats(kFloat, 288, 1200);
  const auto served = [&](const Tensor& to, const Tensor& from, bool transposed) {
    return serves({to, from, weight.view, {}, transposed}, device);
  };
  EXPECT_EQ(served(wide.view, in.view, true), early);
  EXPECT_EQ(served(out.view, wide.view, false), early);
  EXPECT_FALSE(served(many_out.view, many.view, true));
  EXPECT_FALSE(served(odd.view, in.view, true));
  EXPECT_FALSE(served(floats.view, in.view, true));
  const DeviceMatrix shifted(kHalf, 1200, 312, {}, {0, 4}), bias(kHalf, 1, 1200), odd_bias(kHalf, 1, 1200, {}, {0, 1});
  EXPECT_FALSE(serves({wide.view, in.view, shifted.view, {}, true}, device)) << "weights 8 bytes off";
  EXPECT_EQ(serves({wide.view, in.view, weight.view, bias.view, true}, device), early);
  EXPECT_FALSE(serves({wide.view, in.view, weight.view, odd_bias.view, true}, device));
  const DeviceMatrix none(kHalf, 288, 0), none_weight(kHalf, 1200, 0);
  EXPECT_FALSE(serves({wide.view, none.view, none_weight.view, {}, true}, device)) << "of no inputs";
  device.shared_memory = 99 << 10;
  EXPECT_EQ(served(wide.view, in.view, true), early);
  EXPECT_FALSE(served(out.view, wide.view, false)) << "1,200 inputs at once";
}

// Which division serves a product depends on how many blocks the device holds, so one is made up that holds few.
TEST(FewRowsProduct, EveryDivisionAgreesWithTheOracle) {
  CudaKernels& kernels = testing::device();
  if (!starts_early()) GTEST_SKIP() << "products of few rows are for devices that start grids early";
  for (const std::int64_t rows : {5, 40})
    for (const std::int64_t inputs : {72, 648})
      for (const int multiprocessors : {1, 132})
        for (const bool transposed : {true, false}) {
          const std::int64_t outputs = 104;
          const auto in = draw_halves(rows * inputs, 1), weight = draw_halves(outputs * inputs, 2);
          DeviceInfo device;
          device.multiprocessors = multiprocessors;
          device.shared_memory = 227 << 10;
          const DeviceMatrix in_(kHalf, rows, inputs, in),
              weight_(kHalf, transposed ? outputs : inputs, transposed ? inputs : outputs, weight),
              out(kHalf, rows, outputs);
          ember::run({out.view, in_.view, weight_.view, {}, transposed}, {device, kernels.stream(), GridStart::after});
          const auto expected = [&]<typename T>(const std::vector<T>& x, const std::vector<T>& w) {
            return transposed
                       ? reference::linear_forward<T>(x, w, {}, rows, outputs, inputs)
                       : reference::linear_backward<T>(x, std::vector<T>(static_cast<std::size_t>(rows * outputs)), w,
                                                       rows, inputs, outputs)
                             .in;
          };
          EXPECT_TRUE(near_twin(device_results({&out})[0], to_halves(expected(floats(in), floats(weight))),
                                expected(in, weight), product_floor(inputs, 1)))
              << rows << " rows, " << inputs << " inputs, " << multiprocessors << " multiprocessors, " << transposed;
        }
}

TEST(LinearEdge, AnEmptySumIsZero) {
  const DeviceMatrix none(kHalf, 2, 0), weight(kHalf, 8, 0), to_none(kHalf, 0, 8);
  const std::vector<double> values = draw_halves(8, 1);
  for (const DType type : {kHalf, kFloat}) {
    const DeviceMatrix out(type, 2, 8, {}, {8, 8}), plain(type, 2, 8), din(kHalf, 2, 8), bias(type, 1, 8, values);
    testing::device().linear_forward(out.view, none.view, weight.view, bias.view);
    testing::device().linear_forward(plain.view, none.view, weight.view, {});
    testing::device().linear_backward_input(din.view, none.view, to_none.view);
    std::vector<double> twice = values;
    twice.insert(twice.end(), values.begin(), values.end());
    const std::vector<float> zeros(16);
    EXPECT_EQ(device_results({&out, &plain, &din}), (Results{floats(twice), zeros, zeros}));
  }
}

// Of products that are ours where grids start early, which Matmul does not look at.
TEST(LinearShapes, WrongOnesAreRefused) {
  const DeviceMatrix in(kHalf, 3, 8, draw_halves(24, 1)), out(kHalf, 3, 16, draw_halves(48, 2)), weight(kHalf, 16, 8),
      wide(kHalf, 3, 24), bias(kHalf, 1, 16), single(kFloat, 1, 16), dweight(kFloat, 16, 8);
  CudaKernels& kernels = testing::device();
  EXPECT_THROW(kernels.linear_forward(out.view, wide.view, weight.view, bias.view), std::logic_error);
  EXPECT_THROW(kernels.linear_forward(out.view, in.view, weight.view, single.view), std::logic_error);
  EXPECT_THROW(kernels.linear_backward_input(wide.view, out.view, weight.view), std::logic_error);
  EXPECT_THROW(kernels.linear_backward_weight(weight.view, {}, out.view, in.view), std::logic_error);
  EXPECT_THROW(kernels.linear_backward_weight(dweight.view, bias.view, out.view, in.view), std::logic_error);
  EXPECT_TRUE(std::isnan(device_results({&dweight})[0][0])) << "a refused call left a product behind";
}

}  // namespace
}  // namespace ember
