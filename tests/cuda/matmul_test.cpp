// Matmul against plain sums in double: its three uses, with columns cut out of wider matrices, and bit-equal
// repetition.
#include "kernels/cuda/matmul.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <tuple>
#include <vector>

#include "runtime/cuda/check.h"
#include "runtime/cuda/device.h"
#include "runtime/cuda/graph.h"
#include "runtime/cuda/memory.h"
#include "tests/cuda/cuda_support.h"
#include "tests/cuda/product_error.h"
#include "tests/reference/linear.h"

namespace ember {
namespace {

using namespace testing;

// A matrix on the device with `gap` elements between its rows, which must stay as they are.
class ProductMatrix {
 public:
  ProductMatrix(const Stream& stream, DType type, std::int64_t rows, std::int64_t cols, std::int64_t gap,
                const std::vector<double>& values = {})
      : stream_(stream), before_(static_cast<std::size_t>(rows * (cols + gap))) {
    for (std::size_t i = 0; i < before_.size(); ++i) {
      const auto r = static_cast<std::int64_t>(i) / (cols + gap), c = static_cast<std::int64_t>(i) % (cols + gap);
      before_[i] = c >= cols        ? 7.0f
                   : values.empty() ? NAN
                                    : static_cast<float>(values[static_cast<std::size_t>(r * cols + c)]);
    }
    memory_ = device_buffer(before_.size() * size_of(type));
    view = {memory_.data(), rows, cols, cols + gap, type};
    std::vector<__half> halves;
    for (const float value : before_) halves.push_back(__float2half_rn(value));
    if (memory_.size() == 0) return;
    check_cuda(
        cudaMemcpyAsync(memory_.data(), type == DType::f16 ? static_cast<const void*>(halves.data()) : before_.data(),
                        memory_.size(), cudaMemcpyHostToDevice, stream_),
        "copying");
    stream_.synchronize();
  }

  std::vector<float> values() const {
    std::vector<std::byte> bytes(memory_.size());
    check_cuda(cudaMemcpyAsync(bytes.data(), memory_.data(), bytes.size(), cudaMemcpyDeviceToHost, stream_), "copying");
    stream_.synchronize();
    std::vector<float> out;
    for (std::size_t i = 0; i < before_.size(); ++i) {
      float value = 0;
      __half half;
      if (view.dtype == DType::f32)
        std::memcpy(&value, bytes.data() + 4 * i, 4);
      else
        std::memcpy(&half, bytes.data() + 2 * i, 2), value = __half2float(half);
      const bool inside = static_cast<std::int64_t>(i) % view.stride < view.cols;
      if (inside)
        out.push_back(value);
      else
        EXPECT_EQ(value, 7.0f) << "element " << i << " between the rows was written";
    }
    return out;
  }

  Tensor view;

 private:
  const Stream& stream_;
  std::vector<float> before_;
  Buffer memory_;
};

// Sums of products of unit normals in f32; rounding them to f16 costs 2^-11 of them.
::testing::AssertionResult near(const std::vector<float>& actual, const std::vector<double>& expected,
                                std::int64_t terms, DType type) {
  return testing::all_close<float, double>(actual, expected,
                                           testing::product_error(terms) + (type == DType::f16 ? 0x1p-24 : 0),
                                           type == DType::f16 ? 0x1p-11 * 1.01 : 0);
}

// x as f32 or f16 holds it, what is beyond cut off.
float cut_off(double x, DType type) {
  const auto to_type = [type](float value) {
    return type == DType::f16 ? __half2float(__float2half_rz(value)) : value;
  };
  const auto nearest = static_cast<float>(x);
  const bool beyond = std::fabs(static_cast<double>(nearest)) > std::fabs(x);
  return to_type(beyond ? std::nextafter(nearest, 0.0f) : nearest);
}
// in weightᵀ with four products at a time added to a sum of that type, as a T4's tensor cores do it.
std::vector<float> by_blocks_of_four(const std::vector<double>& in, const std::vector<double>& weight, std::int64_t m,
                                     std::int64_t o, std::int64_t i, DType sum_type) {
  std::vector<float> out;
  for (std::int64_t e = 0; e < m * o; ++e) {
    const double *x = in.data() + e / o * i, *w = weight.data() + e % o * i;
    float sum = 0;
    for (std::int64_t k = 0; k < i; k += 4) {
      double exact = static_cast<double>(sum);
      for (std::int64_t t = k; t < std::min(k + 4, i); ++t) exact += x[t] * w[t];
      sum = cut_off(exact, sum_type);
    }
    out.push_back(sum);
  }
  return out;
}

// What tensor cores make of sums passes; sums in f16 do not, nor does a product without its last term.
TEST(MatmulTolerance, IsThatOfTensorCores) {
  for (const auto& [m, o, i] : {std::tuple{65, 64, 1200}, std::tuple{33, 32, 312}, std::tuple{7, 26, 130}}) {
    const auto in = draw_halves(m * i, 1), weight = draw_halves(o * i, 2);
    const auto exact = reference::linear_forward(in, weight, std::vector<double>{}, m, o, i);
    EXPECT_TRUE(near(by_blocks_of_four(in, weight, m, o, i, DType::f32), exact, i, DType::f32)) << i;
    const std::vector<float> in_f16 = by_blocks_of_four(in, weight, m, o, i, DType::f16);
    EXPECT_FALSE(near(in_f16, exact, i, DType::f32)) << i;
    EXPECT_FALSE(near(in_f16, exact, i, DType::f16)) << i;
    std::vector<double> shorter = in;
    for (std::int64_t r = 1; r <= m; ++r) shorter[static_cast<std::size_t>(r * i - 1)] = 0;
    const std::vector<float> lost = by_blocks_of_four(shorter, weight, m, o, i, DType::f32);
    for (const DType type : {DType::f32, DType::f16}) EXPECT_FALSE(near(lost, exact, i, type)) << i;
  }
}

class MatmulOf : public ::testing::TestWithParam<std::tuple<std::tuple<int, int, int>, int>> {
 protected:
  void SetUp() override {
    use_device("cuda");
    static const testing::TemporaryDirectory folder;  // where no other program adds algorithms meanwhile
    setenv("EMBER_CACHE_DIR", folder.path().c_str(), 1);
  }
  Stream stream_;
};

TEST_P(MatmulOf, AgreesWithPlainSums) {
  const auto [shape, gap] = GetParam();
  const auto [m, o, i] = shape;
  Matmul matmul(stream_);
  const auto in = draw_halves(m * i, 1), weight = draw_halves(o * i, 2), bias = draw_halves(o, 3),
             dout = draw_halves(m * o, 4);
  const ProductMatrix in_(stream_, DType::f16, m, i, gap, in), weight_(stream_, DType::f16, o, i, 2 * gap, weight),
      dout_(stream_, DType::f16, m, o, gap, dout);
  for (const DType type : {DType::f16, DType::f32})
    for (const bool with_bias : {false, true}) {
      const ProductMatrix out(stream_, type, m, o, gap), bias_(stream_, type, 1, o, 0, bias);
      matmul.forward(out.view, in_.view, weight_.view, with_bias ? bias_.view : Tensor{});
      const auto first = out.values();
      EXPECT_TRUE(near(first, reference::linear_forward(in, weight, with_bias ? bias : std::vector<double>{}, m, o, i),
                       i, type));
      matmul.forward(out.view, in_.view, weight_.view, with_bias ? bias_.view : Tensor{});
      EXPECT_EQ(out.values(), first);
    }

  const auto expected = reference::linear_backward(dout, in, weight, m, o, i);
  const ProductMatrix din(stream_, DType::f16, m, i, gap);
  matmul.backward_input(din.view, dout_.view, weight_.view);
  EXPECT_TRUE(near(din.values(), expected.in, o, DType::f16));

  const ProductMatrix dweight(stream_, DType::f32, o, i, gap);
  matmul.backward_weight(dweight.view, dout_.view, in_.view);
  EXPECT_TRUE(near(dweight.values(), expected.weight, m, DType::f32));
}

// Products at once, each as by itself; between them lie rows that must stay.
struct ProductsApart {
  std::int64_t count, between_dweight, between_dout, between_in;
};
void expect_batch(const Stream& stream, Matmul& matmul, const std::tuple<int, int, int>& shape, std::int64_t gap,
                  const ProductsApart& apart) {
  const auto [m, o, i] = shape;
  const std::int64_t dweight_rows = o + apart.between_dweight, dout_rows = m + apart.between_dout,
                     in_rows = m + apart.between_in;
  const auto in = draw_halves(apart.count * in_rows * i, 1), dout = draw_halves(apart.count * dout_rows * o, 2);
  const ProductMatrix in_(stream, DType::f16, apart.count * in_rows, i, gap, in),
      dout_(stream, DType::f16, apart.count * dout_rows, o, gap, dout),
      dweight(stream, DType::f32, apart.count * dweight_rows, i, gap);
  matmul.backward_weight(dweight.view.row_block(0, o), dout_.view.row_block(0, m), in_.view.row_block(0, m),
                         {apart.count, dweight_rows * (i + gap), dout_rows * (o + gap), in_rows * (i + gap)});
  const std::vector<float> all = dweight.values();
  for (std::int64_t n = 0; n < apart.count; ++n) {
    const auto part = [n](const auto& values, std::int64_t rows, std::int64_t rows_apart, std::int64_t cols) {
      const auto begin = values.begin() + n * rows_apart * cols;
      return std::vector(begin, begin + rows * cols);
    };
    const auto expected = reference::linear_backward(part(dout, m, dout_rows, o), part(in, m, in_rows, i),
                                                     std::vector<double>(static_cast<std::size_t>(o * i)), m, o, i);
    EXPECT_TRUE(near(part(all, o, dweight_rows, i), expected.weight, m, DType::f32)) << "product " << n;
    for (std::int64_t e = (n * dweight_rows + o) * i; e < (n + 1) * dweight_rows * i; ++e)
      EXPECT_TRUE(std::isnan(all[static_cast<std::size_t>(e)])) << "element " << e << " after product " << n;
  }
}

TEST_P(MatmulOf, ABatchOfProductsAgreesWithPlainSums) {
  const auto [shape, gap] = GetParam();
  Matmul matmul(stream_);
  expect_batch(stream_, matmul, shape, gap, {3, 2, 2, 2});
}

INSTANTIATE_TEST_SUITE_P(Shapes, MatmulOf,
                         ::testing::Combine(::testing::Values(std::tuple{1, 8, 8}, std::tuple{1, 28, 312},
                                                              std::tuple{16, 312, 312}, std::tuple{33, 936, 312},
                                                              std::tuple{65, 64, 1200}, std::tuple{130, 312, 768},
                                                              std::tuple{7, 26, 130}),
                                            ::testing::Values(0, 8)));

class MatmulEdge : public MatmulOf {};

TEST_F(MatmulEdge, NothingToWrite) {
  Matmul matmul(stream_);
  const ProductMatrix some(stream_, DType::f16, 1, 8, 0), weight(stream_, DType::f16, 4, 8, 0),
      dout(stream_, DType::f16, 1, 4, 0);
  const Tensor in = some.view.row_block(0, 0), out = dout.view.row_block(0, 0);
  matmul.forward(out, in, weight.view, {});
  matmul.backward_input(in, out, weight.view);
  matmul.backward_weight(matrix(nullptr, 0, 8), dout.view.columns(0, 0), some.view);
}

// One plan for two of these would take one's distances, or count, for the other's.
TEST_F(MatmulEdge, BatchesThatDifferInOneThingAgreeWithPlainSums) {
  Matmul matmul(stream_);
  for (const ProductsApart& apart : {ProductsApart{2, 2, 2, 2}, ProductsApart{3, 2, 2, 2}, ProductsApart{2, 1, 2, 2},
                                     ProductsApart{2, 2, 1, 2}, ProductsApart{2, 2, 2, 1}})
    expect_batch(stream_, matmul, {16, 24, 32}, 0, apart);
}

TEST_F(MatmulEdge, WrongOperandsAreDefects) {
  Matmul matmul(stream_);
  const ProductMatrix in_(stream_, DType::f16, 2, 8, 0), weight_(stream_, DType::f16, 4, 8, 0),
      out_(stream_, DType::f16, 2, 4, 0), bias_(stream_, DType::f16, 1, 4, 0), dweight_(stream_, DType::f32, 4, 8, 0);
  const Tensor in = in_.view, weight = weight_.view, out = out_.view, bias = bias_.view, dweight = dweight_.view;
  const auto as = [](Tensor operand, DType type) {
    operand.dtype = type;
    return operand;
  };
  const auto forward = [&](Tensor o, Tensor i, Tensor w, Tensor b) {
    EXPECT_THROW(matmul.forward(o, i, w, b), std::logic_error);
  };
  forward(out, in.columns(0, 7), weight, {});
  forward(out.columns(0, 3), in, weight, {});
  forward(out.row_block(0, 1), in, weight, {});
  forward(out, as(in, DType::f32), weight, {});
  forward(out, in, as(weight, DType::f32), {});
  forward(as(out, DType::bf16), in, weight, {});
  forward(out, in, weight, bias.columns(0, 3));
  forward(out, in, weight, as(bias, DType::f32));
  const auto backward_input = [&](Tensor i, Tensor o, Tensor w) {
    EXPECT_THROW(matmul.backward_input(i, o, w), std::logic_error);
  };
  backward_input(in.columns(0, 7), out, weight);
  backward_input(in, out.columns(0, 3), weight);
  backward_input(in.row_block(0, 1), out, weight);
  backward_input(as(in, DType::f32), out, weight);
  backward_input(in, as(out, DType::f32), weight);
  backward_input(in, out, as(weight, DType::f32));
  const auto backward_weight = [&](Tensor w, Tensor o, Tensor i) {
    EXPECT_THROW(matmul.backward_weight(w, o, i), std::logic_error);
  };
  backward_weight(dweight.row_block(0, 3), out, in);
  backward_weight(dweight.columns(0, 7), out, in);
  backward_weight(dweight, out, in.row_block(0, 1));
  backward_weight(dweight, as(out, DType::f32), in);
  backward_weight(dweight, out, as(in, DType::f32));
  backward_weight(as(dweight, DType::f16), out, in);
}

TEST_F(MatmulEdge, RunsInAGraphAndWithAlgorithmsOfACheckpoint) {
  Matmul matmul(stream_);
  const auto in = draw_halves(16 * 64, 1), weight = draw_halves(24 * 64, 2);
  const ProductMatrix in_(stream_, DType::f16, 16, 64, 0, in), weight_(stream_, DType::f16, 24, 64, 0, weight),
      out(stream_, DType::f32, 16, 24, 0), again(stream_, DType::f32, 16, 24, 0);
  matmul.forward(out.view, in_.view, weight_.view, {});
  const Graph graph(stream_, [&] { matmul.forward(again.view, in_.view, weight_.view, {}); });
  EXPECT_TRUE(std::isnan(again.values()[0])) << "recording ran something";
  graph.launch(stream_);
  EXPECT_EQ(again.values(), out.values());
  Matmul resumed(stream_);
  resumed.use_algorithms(matmul.algorithms());
  EXPECT_EQ(resumed.algorithms(), matmul.algorithms());
  resumed.forward(again.view, in_.view, weight_.view, {});
  EXPECT_EQ(again.values(), out.values());
}

}  // namespace
}  // namespace ember
