// CudaKernels::attention_forward and attention_backward against the double oracle and the CPU backend: lengths around
// the tiles, head dims with and without an instance of their own, every width of access, both kinds of queries, dropout
// with the CPU's mask, magnitudes at the edges of f16.
#include "tests/reference/attention.h"

#include <cuda_fp16.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "kernels/cuda/cuda_kernels.h"
#include "tests/kernels/packed_sequences.h"
#include "tests/kernels/strided.h"
#include "tests/support.h"

namespace ember {
namespace {

using testing::draw;

constexpr std::int64_t kPositions = 514;  // not a multiple of 4
constexpr float kInfinity = std::numeric_limits<float>::infinity();

CudaKernels& device() {
  static CudaKernels kernels;
  return kernels;
}
Kernels& cpu() {
  static const auto kernels = make_cpu_kernels(Precision::fp32, 1);
  return *kernels;
}

float rounded(double value) {
  return __half2float(__double2half(value));
}
std::vector<double> rounded(std::vector<double> values) {
  for (double& value : values) value = rounded(value);
  return values;
}

// An f16 matrix on the device whose rows lie `gap` halves apart, with sentinels in the gaps and around it, and its
// first element `shift` halves from an aligned address. Starts as NaN, which an output that is not wholly overwritten
// keeps.
class HalfMatrix {
 public:
  HalfMatrix(std::int64_t rows, std::int64_t cols, std::int64_t gap, std::int64_t shift = 0)
      : margin_(kMargin + shift),
        host_(static_cast<std::size_t>(margin_ + rows * (cols + gap) + kMargin), kSentinel),
        memory_(device().allocate(host_.size() * sizeof(__half_raw))) {
    view = {static_cast<__half_raw*>(memory_.data()) + margin_, rows, cols, cols + gap, DType::f16};
    for (std::size_t i = 0; i < host_.size(); ++i)
      if (inside(i)) host_[i] = __half_raw(__float2half(NAN));
    upload();
  }
  HalfMatrix(const HalfMatrix&) = delete;
  HalfMatrix& operator=(const HalfMatrix&) = delete;

  // Fills the columns from `column` on with a matrix of `cols` columns.
  void fill(const std::vector<double>& values, std::int64_t column, std::int64_t cols) {
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(values.size()); ++i)
      at(i / cols, column + i % cols) = __half_raw(__double2half(values[static_cast<std::size_t>(i)]));
    upload();
  }
  std::vector<float> read(std::int64_t column, std::int64_t cols) {
    device().download(host_.data(), memory_.data(), host_.size() * sizeof(__half_raw));
    std::vector<float> values;
    for (std::int64_t r = 0; r < view.rows; ++r)
      for (std::int64_t c = column; c < column + cols; ++c) values.push_back(__half2float(__half(at(r, c))));
    return values;
  }
  // After read.
  bool intact() const {
    for (std::size_t i = 0; i < host_.size(); ++i)
      if (!inside(i) && host_[i].x != kSentinel.x) return false;
    return true;
  }

  Tensor view;

 private:
  bool inside(std::size_t i) const {
    const std::int64_t place = static_cast<std::int64_t>(i) - margin_;
    return place >= 0 && place < view.rows * view.stride && place % view.stride < view.cols;
  }
  __half_raw& at(std::int64_t r, std::int64_t c) {
    return host_[static_cast<std::size_t>(margin_ + r * view.stride + c)];
  }
  void upload() { device().upload(memory_.data(), host_.data(), host_.size() * sizeof(__half_raw)); }

  static constexpr std::int64_t kMargin = 64;
  static constexpr __half_raw kSentinel{0x7123};
  std::int64_t margin_;
  std::vector<__half_raw> host_;
  Buffer memory_;
};

struct Case {
  std::vector<std::int64_t> lengths;
  std::int64_t heads, dim;
  std::int64_t gap = 0, shift = 0;  // of every matrix: their widest access follows from them
};

// Standard deviations of the operands.
struct Scales {
  float query = 1, key = 1, value = 1, dout = 1;
};

using Gradients = std::array<std::vector<float>, 3>;  // of query, key and value

// The operands of one call. Query, key and value are blocks of columns of one matrix, as the model has them, or for
// Queries::first the query is a matrix of its own; so are their gradients.
class Operands {
 public:
  Operands(const Case& shape, Queries queries, float probability, const Scales& scales = {})
      : heads(shape.heads),
        cols(shape.heads * shape.dim),
        packed(shape.lengths, 100, 1),
        tokens(packed.batch.tokens),
        rows(queries == Queries::all ? tokens : packed.batch.sequences),
        queries(queries),
        dropout{probability, 0x123456789abcdef0u, 0x201, 77},
        oracle(shape.lengths, shape.heads, shape.dim, kPositions, queries, dropout),
        query(rounded(draw(rows * cols, 1, scales.query))),
        key(rounded(draw(tokens * cols, 2, scales.key))),
        value(rounded(draw(tokens * cols, 3, scales.value))),
        dout(rounded(draw(rows * cols, 4, scales.dout))),
        qkv_(tokens, 3 * cols, shape.gap, shape.shift),
        dqkv_(tokens, 3 * cols, shape.gap, shape.shift),
        first_query_(rows, cols, shape.gap, shape.shift),
        first_dquery_(rows, cols, shape.gap, shape.shift),
        out_(rows, cols, shape.gap, shape.shift),
        dout_(rows, cols, shape.gap, shape.shift),
        offsets_(device().allocate((shape.lengths.size() + 1) * sizeof(std::int32_t))),
        batch(packed.batch) {
    device().upload(offsets_.data(), batch.cu_seqlens, (shape.lengths.size() + 1) * sizeof(std::int32_t));
    batch.cu_seqlens = static_cast<const std::int32_t*>(offsets_.data());
    upload();
  }

  void upload() {
    queries == Queries::all ? qkv_.fill(query, 0, cols) : first_query_.fill(query, 0, cols);
    qkv_.fill(key, cols, cols);
    qkv_.fill(value, 2 * cols, cols);
    dout_.fill(dout, 0, cols);
  }

  Tensor query_view() const { return queries == Queries::all ? qkv_.view.columns(0, cols) : first_query_.view; }
  Tensor key_view() const { return qkv_.view.columns(cols, cols); }
  Tensor value_view() const { return qkv_.view.columns(2 * cols, cols); }
  Tensor out_view() const { return out_.view; }

  std::vector<float> forward() {
    device().attention_forward(out_.view, query_view(), key_view(), value_view(), batch, heads, kPositions, queries,
                               dropout);
    const auto values = out_.read(0, cols);
    EXPECT_TRUE(out_.intact());
    return values;
  }
  Gradients backward() {
    const Tensor dquery = queries == Queries::all ? dqkv_.view.columns(0, cols) : first_dquery_.view;
    device().attention_backward(dquery, dqkv_.view.columns(cols, cols), dqkv_.view.columns(2 * cols, cols), dout_.view,
                                query_view(), key_view(), value_view(), batch, heads, kPositions, queries, dropout);
    auto of_query = queries == Queries::all ? dqkv_.read(0, cols) : first_dquery_.read(0, cols);
    Gradients gradients{std::move(of_query), dqkv_.read(cols, cols), dqkv_.read(2 * cols, cols)};
    EXPECT_TRUE(dqkv_.intact() && first_dquery_.intact());
    return gradients;
  }

  // What the CPU backend gives.
  std::vector<float> cpu_forward() const {
    Float q(query, rows, cols), k(key, tokens, cols), v(value, tokens, cols), out({}, rows, cols);
    cpu().attention_forward(out.view, q.view, k.view, v.view, packed.batch, heads, kPositions, queries, dropout);
    return out.values;
  }
  Gradients cpu_backward() const {
    Float q(query, rows, cols), k(key, tokens, cols), v(value, tokens, cols), d(dout, rows, cols);
    Float dq({}, rows, cols), dk({}, tokens, cols), dv({}, tokens, cols);
    cpu().attention_backward(dq.view, dk.view, dv.view, d.view, q.view, k.view, v.view, packed.batch, heads, kPositions,
                             queries, dropout);
    return {dq.values, dk.values, dv.values};
  }

 private:
  // A contiguous matrix of floats on the host.
  struct Float {
    Float(const std::vector<double>& from, std::int64_t rows, std::int64_t cols)
        : values(from.begin(), from.end()), view(matrix(nullptr, rows, cols)) {
      values.resize(static_cast<std::size_t>(rows * cols));
      view.data = values.data();
    }
    std::vector<float> values;
    Tensor view;
  };

 public:
  std::int64_t heads, cols;
  testing::PackedSequences packed;
  std::int64_t tokens, rows;
  Queries queries;
  Dropout dropout;
  reference::Attention<double> oracle;
  std::vector<double> query, key, value, dout;

 private:
  HalfMatrix qkv_, dqkv_, first_query_, first_dquery_, out_, dout_;
  Buffer offsets_;

 public:
  Batch batch;
};

// To the 11 bits of an f16, of any exponent.
struct RoundBits {
  float operator()(float value) const {
    int exponent = 0;
    const float fraction = std::frexp(value, &exponent);
    return std::ldexp(std::nearbyint(std::ldexp(fraction, 11)), exponent - 11);
  }
};
// In f32, with the roundings to f16 that tensor cores ask for.
using Twin = reference::Attention<float, RoundBits>;

template <typename To, typename From>
std::vector<To> as(const std::vector<From>& values) {
  return std::vector<To>(values.begin(), values.end());
}

// What rounding alone costs: the error of `actual`, at the worst element and in the mean square, must be at most twice
// that of the twin rounded to f16, plus kFloor of the largest expected value and f16's smallest step. Where the twin
// has luck with its worst element, as it may among a few, the largest value's rounding unit takes its place.
::testing::AssertionResult within_f16(const std::vector<float>& actual, const std::vector<float>& twin,
                                      const std::vector<double>& expected) {
  constexpr double kFloor = 1e-6, kStep = 6e-8;
  if (actual.size() != expected.size() || twin.size() != expected.size())
    return ::testing::AssertionFailure() << "sizes differ";
  double squares = 0, twin_squares = 0, worst = 0, twin_worst = 0, largest = 0;
  std::size_t where = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double error = std::fabs(static_cast<double>(actual[i]) - expected[i]);
    const double twin_error = std::fabs(static_cast<double>(rounded(static_cast<double>(twin[i]))) - expected[i]);
    if (!std::isfinite(error) || !std::isfinite(twin_error))
      return ::testing::AssertionFailure()
             << "element " << i << " is " << actual[i] << ", the twin's " << twin[i] << ", expected " << expected[i];
    squares += error * error;
    twin_squares += twin_error * twin_error;
    if (error > worst) worst = error, where = i;
    twin_worst = std::max(twin_worst, twin_error);
    largest = std::max(largest, std::fabs(expected[i]));
  }
  twin_worst = std::max(twin_worst, std::ldexp(largest, -11));
  const double slack = kFloor * largest + kStep, count = static_cast<double>(std::max<std::size_t>(1, expected.size()));
  const double rms = std::sqrt(squares / count), twin_rms = std::sqrt(twin_squares / count);
  if (worst <= 2 * twin_worst + slack && rms <= 2 * twin_rms + slack) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "error " << worst << " at element " << where << " (" << actual[where]
                                       << ", expected " << expected[where] << "), the twin's " << twin_worst
                                       << "; root mean square " << rms << ", the twin's " << twin_rms;
}

struct Outcome {
  std::vector<float> out;
  Gradients gradients;
  bool operator==(const Outcome&) const = default;
};
Outcome run(Operands& on) {
  auto out = on.forward();
  return {std::move(out), on.backward()};
}

// Against the oracle and against the CPU backend.
void expect_oracle(Operands& on, const Outcome& actual) {
  const Twin twin(on.packed.lengths, on.heads, on.cols / on.heads, kPositions, on.queries, on.dropout);
  const auto q = as<float>(on.query), k = as<float>(on.key), v = as<float>(on.value), d = as<float>(on.dout);
  const auto twin_out = twin.forward(q, k, v);
  EXPECT_TRUE(within_f16(actual.out, twin_out, on.oracle.forward(on.query, on.key, on.value)));
  EXPECT_TRUE(within_f16(actual.out, twin_out, as<double>(on.cpu_forward()))) << "against the CPU";

  const auto expected = on.oracle.backward(on.dout, on.query, on.key, on.value);
  const auto twins = twin.backward(d, q, k, v);
  EXPECT_TRUE(within_f16(actual.gradients[0], twins.query, expected.query)) << "dquery";
  EXPECT_TRUE(within_f16(actual.gradients[1], twins.key, expected.key)) << "dkey";
  EXPECT_TRUE(within_f16(actual.gradients[2], twins.value, expected.value)) << "dvalue";
  const auto cpu_gradients = on.cpu_backward();
  EXPECT_TRUE(within_f16(actual.gradients[0], twins.query, as<double>(cpu_gradients[0]))) << "dquery against the CPU";
  EXPECT_TRUE(within_f16(actual.gradients[1], twins.key, as<double>(cpu_gradients[1]))) << "dkey against the CPU";
  EXPECT_TRUE(within_f16(actual.gradients[2], twins.value, as<double>(cpu_gradients[2]))) << "dvalue against the CPU";
}

std::vector<std::int64_t> batch_of_33() {
  std::vector<std::int64_t> lengths{19, 1, 2, 31, 64, 65, 33, 7, 8, 9, 15, 16, 17};
  while (lengths.size() < 33) lengths.push_back(1 + static_cast<std::int64_t>(lengths.size() * 7 % 23));
  return lengths;
}

const Case kCases[] = {
    {{1}, 2, 26, 2},          {{2}, 2, 26, 2},           {{31}, 2, 26, 2},        {{32}, 2, 26, 0, 2},
    {{33}, 2, 26, 6},         {{127}, 1, 26, 2},         {{128}, 1, 26, 2},       {{129}, 2, 26, 2},
    {{512}, 1, 26, 2},        {batch_of_33(), 3, 26, 2}, {{33, 1, 20}, 2, 26, 1},  // odd strides: halves one by one
    {{33}, 2, 26, 0, 1},                                                           // an odd address
    {{1, 31, 129}, 2, 32, 8},                                                      // 16-byte accesses
    {{33}, 2, 32, 2},                                                              // pairs only, by the stride
    {{33}, 2, 32, 0, 4},                                                           // pairs only, by the address
    {{2, 128}, 2, 64, 8},                                                          // 16-byte accesses
    {{33}, 1, 64, 3},                                                              // halves one by one
    {{193}, 1, 64, 0},         // 16-byte accesses, a last tile of one key
    {{1, 33, 130}, 2, 13, 2},  // an odd head dim
    {{17}, 1, 13, 1},          // and even strides
    {{40, 2, 129}, 2, 48, 8},  // through the instance of 64, 16-byte accesses
    {{33}, 2, 50, 0},          // through the instance of 64, pairs
    {{21}, 2, 8, 0},           // one 16-byte access a row
    {{5, 40}, 3, 1, 0},        // a head of one column
};

class Attention : public ::testing::TestWithParam<std::tuple<int, Queries, float>> {
 protected:
  Operands operands() const {
    return Operands(kCases[std::get<0>(GetParam())], std::get<1>(GetParam()), std::get<2>(GetParam()));
  }
};

TEST_P(Attention, AgreesWithTheOracleAndRepeatsItsBits) {
  Operands on = operands();
  const Outcome outcome = run(on);
  expect_oracle(on, outcome);
  EXPECT_TRUE(run(on) == outcome) << "a repetition gives other bits";
}

INSTANTIATE_TEST_SUITE_P(Cases, Attention,
                         ::testing::Combine(::testing::Range(0, static_cast<int>(std::size(kCases))),
                                            ::testing::Values(Queries::all, Queries::first),
                                            ::testing::Values(0.0f, 0.1f)));

// The layer that only [CLS] asks in sees what it would see in a layer where all ask.
TEST(AttentionQueries, FirstHasTheBitsOfTheFirstRowsOfAll) {
  const Case shape{{20, 1, 70, 33}, 2, 26, 2};
  Operands all(shape, Queries::all, 0.5f), first(shape, Queries::first, 0.5f);
  const auto out = all.forward();
  std::vector<float> expected;
  for (std::int64_t b = 0; b < first.rows; ++b) {
    const auto row = all.packed.batch.cu_seqlens[b] * all.cols;
    std::copy_n(all.query.begin() + row, all.cols, first.query.begin() + b * all.cols);
    expected.insert(expected.end(), out.begin() + row, out.begin() + row + all.cols);
  }
  first.upload();
  EXPECT_EQ(first.forward(), expected);
}

// Survivors are those of the CPU backend, element by element: with equal scores and values that are powers of two, each
// output is a sum that tells which keys survived.
TEST(AttentionDropout, HasTheMaskOfTheCpu) {
  for (const Queries queries : {Queries::all, Queries::first}) {
    Operands on({{10, 3, 9}, 2, 26, 2}, queries, 0.5f, {.query = 0});
    for (std::int64_t i = 0; i < on.tokens * on.cols; ++i)
      on.value[static_cast<std::size_t>(i)] = std::ldexp(1.0, static_cast<int>(i / on.cols % 10));
    on.upload();
    const auto expected = on.cpu_forward(), out = on.forward();
    // The sums differ by one part in 1024 at least, and are computed to one in 2048.
    for (std::size_t i = 0; i < out.size(); ++i) EXPECT_NEAR(out[i], expected[i], expected[i] / 2000) << i;
  }
}

// ---- The edges of f16 ---------------------------------------------------------------------------------------------

TEST(AttentionEdge, ScaledOperands) {
  const Scales scales[] = {
      {.query = 300},                                                // scores of about 300 times a unit normal
      {.value = 12000},                                              // values up to 50000
      {.dout = 12000},                                               // gradients up to 50000
      {.query = 1e-3f, .key = 1e-3f, .value = 1000, .dout = 12000},  // dS of 1e7, dQ and dK within f16
      {.query = 1e-3f, .key = 3000, .value = 1e-3f, .dout = 1e-3f},  // dS of 1e-7, dQ well above f16's smallest
      {.query = 3000, .key = 1e-3f, .value = 1e-3f, .dout = 1e-3f},  // the same for dK
  };
  for (const Scales& scale : scales)
    for (const float probability : {0.0f, 0.1f}) {
      SCOPED_TRACE(::testing::Message() << scale.query << " " << scale.key << " " << scale.value << " " << scale.dout);
      Operands on({{33, 130}, 1, 26, 2}, Queries::all, probability, scale);
      expect_oracle(on, run(on));
    }
}

// Scores of 1e9 and more: one key has all the probability, in f32 as in the oracle.
TEST(AttentionEdge, ScoresOfTheLargestOperands) {
  Operands on({{33, 70}, 2, 26, 2}, Queries::all, 0, {.query = 15000, .key = 15000});
  expect_oracle(on, run(on));
}

// Gradients that grow from query to query by 2^20 in all, so that every tile of them brings a new scale, and that fall.
TEST(AttentionEdge, GradientsOfManyMagnitudes) {
  for (const double factor : {1.125, 1 / 1.125}) {
    Operands on({{150}, 1, 26, 2}, Queries::all, 0.1f, {.dout = factor > 1 ? 1e-5f : 300});
    for (std::int64_t i = 0; i < on.rows * on.cols; ++i) {
      double& gradient = on.dout[static_cast<std::size_t>(i)];
      gradient = rounded(gradient * std::pow(factor, static_cast<double>(i / on.cols)));
    }
    on.upload();
    expect_oracle(on, run(on));
  }
}

TEST(AttentionEdge, WhatIsNotFiniteStaysInItsSequenceAndIsNotHidden) {
  for (const float bad : {static_cast<float>(NAN), kInfinity}) {
    Operands on({{5, 20, 3}, 1, 26, 2}, Queries::all, 0.1f);
    on.key[static_cast<std::size_t>((5 + 11) * on.cols + 4)] = static_cast<double>(bad);
    on.upload();
    const auto out = on.forward();
    const auto gradients = on.backward();
    for (std::int64_t i = 0; i < on.tokens * on.cols; ++i) {
      const auto place = static_cast<std::size_t>(i);
      const bool in_sequence = i >= 5 * on.cols && i < 25 * on.cols;
      // A score of minus infinity is a probability of zero; the gradient of the query shows it all the same.
      if (!in_sequence || std::isnan(bad)) {
        EXPECT_EQ(std::isfinite(out[place]), !in_sequence) << i;
        for (const auto& gradient : gradients) EXPECT_EQ(std::isfinite(gradient[place]), !in_sequence) << i;
      }
    }
    EXPECT_FALSE(std::isfinite(gradients[0][static_cast<std::size_t>(5 * on.cols + 4)]));
  }
}

TEST(AttentionEdge, GradientsThatOverflowAreSeen) {
  Operands on({{20, 3}, 1, 26, 2}, Queries::all, 0);
  on.dout[3] = static_cast<double>(kInfinity);
  on.upload();
  const auto gradients = on.backward();
  const auto finite = [](const std::vector<float>& values, std::int64_t begin, std::int64_t end) {
    return std::all_of(values.begin() + begin, values.begin() + end, [](float x) { return std::isfinite(x); });
  };
  for (const auto& gradient : gradients) {
    EXPECT_FALSE(finite(gradient, 0, 20 * on.cols));
    EXPECT_TRUE(finite(gradient, 20 * on.cols, 23 * on.cols));
  }
}

// ---- What is refused ----------------------------------------------------------------------------------------------

TEST(AttentionEdge, AnEmptyBatchIsLeftAlone) {
  const Tensor none = matrix(nullptr, 0, 52, DType::f16);
  device().attention_forward(none, none, none, none, {}, 2, 4, Queries::all, {});
  device().attention_backward(none, none, none, none, none, none, none, {}, 2, 4, Queries::all, {});
}

TEST(AttentionEdge, WrongShapesAreRefused) {
  Operands on({{5, 3}, 2, 26, 2}, Queries::all, 0);
  const Tensor q = on.query_view(), k = on.key_view(), v = on.value_view(), out = on.out_view();
  const auto forward = [&](Tensor to, Tensor query, Tensor key, std::int64_t heads, std::int64_t positions) {
    device().attention_forward(to, query, key, v, on.batch, heads, positions, Queries::all, {});
  };
  EXPECT_NO_THROW(forward(out, q, k, 2, 5));
  EXPECT_THROW(forward(out, q, k, 3, 5), std::logic_error);
  EXPECT_THROW(forward(out, q, k, 2, 4), std::logic_error);
  EXPECT_THROW(forward(out, q.row_block(0, 7), k, 2, 5), std::logic_error);
  EXPECT_THROW(forward(out, q, k.columns(0, 26), 2, 5), std::logic_error);
  EXPECT_THROW(forward(out.row_block(0, 7), q, k, 2, 5), std::logic_error);
  Tensor floats = k;
  floats.dtype = DType::f32;
  EXPECT_THROW(forward(out, q, floats, 2, 5), std::logic_error);
  EXPECT_THROW(device().attention_backward(q, k.row_block(1, 7), v, out, q, k, v, on.batch, 2, 5, Queries::all, {}),
               std::logic_error);
}

TEST(AttentionEdge, AHeadDimAbove64IsTheUsersMistake) {
  Operands on({{5}, 1, 66, 2}, Queries::all, 0);
  EXPECT_THROW(on.forward(), Error);
  EXPECT_THROW(on.backward(), Error);
}

}  // namespace
}  // namespace ember
