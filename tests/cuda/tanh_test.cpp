// The operations between the encoder and the classifier on the device, gather_first and tanh, against the double oracle
// and CpuKernels.
#include "tests/reference/tanh.h"

#include <gtest/gtest.h>

#include <stdexcept>

#include "tests/cuda/cuda_support.h"

namespace ember {
namespace {

using namespace testing;

// ---- gather_first ---------------------------------------------------------------------------------------------------

struct Gather {
  std::vector<std::int64_t> lengths;
  std::int64_t cols;
};

class GatherFirst : public ::testing::TestWithParam<Gather> {
 protected:
  const std::int64_t cols = GetParam().cols;
  const PackedSequences packed{GetParam().lengths, 9, 1};
  const DeviceBatch on_device{packed};
  const std::int64_t tokens = packed.batch.tokens, sequences = packed.batch.sequences;
  // The places in a (tokens, cols) matrix of the elements that are gathered, in order.
  std::vector<std::size_t> places() const {
    std::vector<std::size_t> out;
    for (std::int64_t b = 0; b < sequences; ++b)
      for (std::int64_t c = 0; c < cols; ++c)
        out.push_back(static_cast<std::size_t>(packed.batch.cu_seqlens[b] * cols + c));
    return out;
  }
};

TEST_P(GatherFirst, CopiesTheFirstRowOfEachSequence) {
  const std::vector<double> in = draw_halves(tokens * cols, 1, 10000);
  std::vector<float> expected;
  for (const std::size_t place : places()) expected.push_back(static_cast<float>(in[place]));
  for (const Layout layout : {Layout{}, Layout{8, 8}, Layout{2, 1}}) {
    const Results actual = testing::run_twice([&] {
      const DeviceMatrix from(kHalf, tokens, cols, in, layout), out(kHalf, sequences, cols, {}, layout);
      testing::device().gather_first(out.view, from.view, on_device.batch);
      return device_results({&out});
    });
    EXPECT_EQ(actual[0], expected);
  }
}

TEST_P(GatherFirst, BackwardAddsToTheFirstRowsOnly) {
  const std::vector<double> din = draw_halves(tokens * cols, 1), dout = draw_halves(sequences * cols, 2);
  std::vector<float> expected = floats(din);
  const std::vector<std::size_t> to = places();
  for (std::size_t i = 0; i < to.size(); ++i) expected[to[i]] = to_half(expected[to[i]] + static_cast<float>(dout[i]));
  for (const Layout layout : {Layout{}, Layout{8, 8}, Layout{2, 1}}) {
    const Results actual = testing::run_twice([&] {
      const DeviceMatrix into(kHalf, tokens, cols, din, layout), from(kHalf, sequences, cols, dout, layout);
      testing::device().gather_first_backward(into.view, from.view, on_device.batch);
      return device_results({&into});
    });
    EXPECT_EQ(actual[0], expected);
  }
}

INSTANTIATE_TEST_SUITE_P(Batches, GatherFirst,
                         ::testing::Values(Gather{{}, 312}, Gather{{1}, 312}, Gather{{3, 1, 128, 2}, 312},
                                           Gather{std::vector<std::int64_t>(33, 2), 768}, Gather{{2, 512, 1}, 30},
                                           Gather{{2, 1, 3}, 13}));

TEST(GatherFirstShapes, WrongOnesAreRefused) {
  const PackedSequences two({2, 1}, 9, 1);
  const DeviceBatch batch(two);
  const DeviceMatrix tokens(kHalf, 3, 4), sequences(kHalf, 2, 4), narrow(kHalf, 2, 3), single(kFloat, 2, 4);
  EXPECT_NO_THROW(testing::device().gather_first(sequences.view, tokens.view, batch.batch));
  EXPECT_THROW(testing::device().gather_first(narrow.view, tokens.view, batch.batch), std::logic_error);
  EXPECT_THROW(testing::device().gather_first(single.view, tokens.view, batch.batch), std::logic_error);
  EXPECT_THROW(testing::device().gather_first_backward(tokens.view, tokens.view, batch.batch), std::logic_error);
}

// ---- tanh -----------------------------------------------------------------------------------------------------------

struct TanhCase {
  std::string name;
  std::int64_t rows, cols;
  float probability;
  float scale = 1, dscale = 1;
};

const TanhCase kTanhCases[] = {
    {"empty", 0, 312, 0.1f},
    {"one_row", 1, 312, 0.1f},
    {"two_rows", 2, 768, 0.0f},
    {"tinybert", 33, 312, 0.1f},
    {"half_dropped", 16, 384, 0.5f},
    {"many_rows", 1100, 8, 0.1f},
    {"odd", 31, 13, 0.1f},
    {"not_a_multiple_of_four", 5, 30, 0.1f},
    {"large", 9, 312, 0.1f, 12000, 12000},
    {"small", 9, 312, 0.1f, 1e-3f, 1e-5f},
};

class Tanh : public ::testing::TestWithParam<TanhCase> {
 protected:
  const std::int64_t rows = GetParam().rows, cols = GetParam().cols;
  const float dscale = GetParam().dscale;
  const Dropout dropout{GetParam().probability, 0x123456789abcdef0u, 0x500, 3};
  const std::vector<double> in = draw_halves(rows * cols, 1, GetParam().scale), bias = draw(cols, 2, GetParam().scale),
                            dout = draw_halves(rows * cols, 3, dscale);

  // out, activated
  Results forward(bool alias, Layout layout) const {
    const DeviceMatrix in_(kHalf, rows, cols, in, layout), bias_(kFloat, 1, cols, bias),
        out(kHalf, rows, cols, {}, layout), own(kHalf, rows, cols, {}, layout);
    const DeviceMatrix& activated = alias ? in_ : own;
    testing::device().tanh_forward(out.view, activated.view, in_.view, bias_.view, dropout);
    return device_results({&out, &activated});
  }
  // din, dbias; from what forward left.
  Results backward(const Results& saved, bool alias, Layout layout) const {
    const DeviceMatrix activated(kHalf, rows, cols, doubles(saved[1]), layout), dout_(kHalf, rows, cols, dout, layout),
        own(kHalf, rows, cols, {}, layout), dbias(kFloat, 1, cols);
    const DeviceMatrix& din = alias ? dout_ : own;
    testing::device().tanh_backward(din.view, dbias.view, dout_.view, activated.view, dropout);
    return device_results({&din, &dbias});
  }
  // out, activated, and din, dbias from what the device's forward left
  Results cpu(const Results& saved) const {
    const StridedMatrix in_(rows, cols, 0, in), bias_(1, cols, 0, bias), dout_(rows, cols, 0, dout), out(rows, cols, 0),
        activated(rows, cols, 0), stored(rows, cols, 0, doubles(saved[1])), din(rows, cols, 0), dbias(1, cols, 0);
    const auto kernels = make_cpu_kernels(Precision::fp32, 1);
    kernels->tanh_forward(out.view, activated.view, in_.view, bias_.view, dropout);
    kernels->tanh_backward(din.view, dbias.view, dout_.view, stored.view, dropout);
    return testing::results({&out, &activated, &din, &dbias});
  }

  void expect_all(const Results& out, const Results& gradients) const {
    const auto twin = reference::tanh_forward(floats(in), floats(bias), dropout);
    const auto exact = reference::tanh_forward(in, bias, dropout);
    const auto width = static_cast<std::size_t>(cols);
    const auto dtwin = reference::tanh_backward(floats(dout), out[1], width, dropout);
    const auto dexact = reference::tanh_backward(dout, doubles(out[1]), width, dropout);
    const Results from_cpu = cpu(out);
    const double floor = 1e-6 * dscale + kSmallestHalf;
    const double sum_floor = 1e-6 * dscale * (1 + static_cast<double>(rows));
    EXPECT_TRUE(near_twin(out[0], to_halves(twin.out), exact.out, 1e-7));
    EXPECT_TRUE(near_twin(out[1], to_halves(twin.activated), exact.activated, 1e-7));
    EXPECT_TRUE(near_twin(gradients[0], to_halves(dtwin.in), dexact.in, floor));
    EXPECT_TRUE(near_twin(gradients[1], dtwin.bias, dexact.bias, sum_floor));
    EXPECT_TRUE(near_twin(out[0], to_halves(twin.out), doubles(from_cpu[0]), 1e-7));
    EXPECT_TRUE(near_twin(out[1], to_halves(twin.activated), doubles(from_cpu[1]), 1e-7));
    EXPECT_TRUE(near_twin(gradients[0], to_halves(dtwin.in), doubles(from_cpu[2]), floor));
    EXPECT_TRUE(near_twin(gradients[1], dtwin.bias, doubles(from_cpu[3]), sum_floor));
  }
};

TEST_P(Tanh, AgreesWithTheOracleAndTheCpu) {
  const Results saved = testing::run_twice([&] { return forward(false, {}); });
  expect_all(saved, testing::run_twice([&] { return backward(saved, false, {}); }));
}

TEST_P(Tanh, OperandsMayOverlapAndBeStrided) {
  const Results plain = forward(false, {});
  EXPECT_EQ(plain, forward(true, {4, 4}));
  EXPECT_EQ(backward(plain, false, {}), backward(plain, true, {8, 4}));
}

TEST_P(Tanh, RowsMayBeMisaligned) {
  const Layout layout{3, 1};
  const Results saved = forward(true, layout);
  expect_all(saved, backward(saved, true, layout));
}

INSTANTIATE_TEST_SUITE_P(Shapes, Tanh, ::testing::ValuesIn(kTanhCases),
                         [](const auto& tested) { return tested.param.name; });

TEST(TanhShapes, WrongOnesAreRefused) {
  const DeviceMatrix a(kHalf, 2, 4), b(kHalf, 3, 4), vector(kFloat, 1, 4), longer(kFloat, 1, 5);
  EXPECT_THROW(testing::device().tanh_forward(a.view, a.view, b.view, vector.view, {}), std::logic_error);
  EXPECT_THROW(testing::device().tanh_forward(a.view, a.view, a.view, longer.view, {}), std::logic_error);
  EXPECT_THROW(testing::device().tanh_backward(a.view, longer.view, a.view, a.view, {}), std::logic_error);
}

}  // namespace
}  // namespace ember
