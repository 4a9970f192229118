// first_attention_forward and first_attention_backward against the double oracle of attention on keys and values that
// are computed in double, on awkward lengths, odd head dims, with and without dropout, bias and padding between rows;
// and the definition by products and attention (Kernels' own), which other backends use.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>

#include "tests/kernels/packed_sequences.h"
#include "tests/kernels/reproducible.h"
#include "tests/reference/attention.h"

namespace ember {
namespace {

using testing::all_close;
using testing::draw;
using testing::StridedMatrix;

constexpr std::int64_t kFirstAttentionPositions = 514;

struct FirstAttentionCase {
  std::vector<std::int64_t> lengths;
  std::int64_t heads, dim;
};

const FirstAttentionCase kFirstAttentionCases[] = {
    {{1}, 2, 26},
    {{2}, 2, 26},
    {{31, 1, 32}, 2, 26},
    {{33, 127}, 12, 26},
    {{128, 129, 512, 3}, 2, 26},
    {{19, 5, 7}, 12, 64},
    {{17}, 3, 1},
    {{21, 40}, 2, 16},
    {{6, 9}, 40, 2},  // more heads than softmax takes rows at once
    {{19, 1,  2,  3,  31, 32, 33, 35, 36, 37, 5,  6,  7,  8,  9,  10, 11,
      12, 13, 14, 15, 16, 17, 18, 20, 21, 22, 23, 24, 25, 26, 27, 28},
     12,
     26},
};

using Values = std::vector<double>;

// Row-major (rows, inner) times (cols, inner) transposed.
Values times_transposed(const Values& a, const Values& b, std::int64_t rows, std::int64_t cols, std::int64_t inner) {
  Values c(static_cast<std::size_t>(rows * cols));
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t k = 0; k < cols; ++k)
      for (std::int64_t i = 0; i < inner; ++i) c[r * cols + k] += a[r * inner + i] * b[k * inner + i];
  return c;
}

struct FirstAttentionResults {
  std::vector<float> out, dquery, din, dweight, dbias;
  bool operator==(const FirstAttentionResults&) const = default;
};

struct FirstAttentionExpected {
  Values out, dquery, din, dweight, dbias;
};

class FirstAttentionOperands {
 public:
  FirstAttentionOperands(const FirstAttentionCase& shape, float probability, bool biased)
      : shape_(shape),
        cols(shape.heads * shape.dim),
        packed(shape.lengths, 100, 1),
        tokens(packed.batch.tokens),
        rows(packed.batch.sequences),
        dropout_{probability, 0x123456789abcdef0u, 0x201, 77},
        biased_(biased),
        query_(draw(rows * cols, 1)),
        in_(draw(tokens * cols, 2)),
        weight_(draw(2 * cols * cols, 3, 1 / std::sqrt(static_cast<float>(cols)))),
        bias_(draw(2 * cols, 4)),
        dout_(draw(rows * cols, 5)),
        query(rows, cols, 3, query_),
        in(tokens, cols, 5, in_),
        weight(2 * cols, cols, 0, weight_),
        bias(1, 2 * cols, 0, bias_),
        dout(rows, cols, 2, dout_) {}

  // As the backend does it, or by the definition in Kernels.
  template <bool kDefinition = false>
  FirstAttentionResults run(Kernels& kernels) const {
    StridedMatrix out(rows, cols, 7), dquery(rows, cols, 1), din(tokens, cols, 3), dweight(2 * cols, cols, 2),
        dbias(1, 2 * cols, 0), kept(tokens, 2 * cols, 0), dkept(tokens, 2 * cols, 0);
    const Tensor added = biased_ ? bias.view : Tensor{};
    const Batch& batch = packed.batch;
    if constexpr (kDefinition) {
      kernels.Kernels::first_attention_forward(out.view, kept.view, query.view, in.view, weight.view, added, batch,
                                               shape_.heads, kFirstAttentionPositions, dropout_);
      kernels.Kernels::first_attention_backward(dquery.view, din.view, dweight.view, dbias.view, dkept.view, dout.view,
                                                kept.view, query.view, in.view, weight.view, added, batch, shape_.heads,
                                                kFirstAttentionPositions, dropout_);
    } else {
      kernels.first_attention_forward(out.view, kept.view, query.view, in.view, weight.view, added, batch, shape_.heads,
                                      kFirstAttentionPositions, dropout_);
      kernels.first_attention_backward(dquery.view, din.view, dweight.view, dbias.view, dkept.view, dout.view,
                                       kept.view, query.view, in.view, weight.view, added, batch, shape_.heads,
                                       kFirstAttentionPositions, dropout_);
    }
    for (const StridedMatrix* output : {&out, &dquery, &din, &dweight, &dbias}) EXPECT_TRUE(output->intact());
    return {out.values(), dquery.values(), din.values(), dweight.values(), dbias.values()};
  }

  FirstAttentionExpected expected() const {
    Values key = times_transposed(in_, weight_, tokens, 2 * cols, cols), value(static_cast<std::size_t>(tokens * cols));
    Values keys(value.size());
    for (std::int64_t n = 0; n < tokens; ++n)
      for (std::int64_t c = 0; c < cols; ++c) {
        keys[n * cols + c] = key[n * 2 * cols + c] + (biased_ ? bias_[c] : 0);
        value[n * cols + c] = key[n * 2 * cols + cols + c] + (biased_ ? bias_[cols + c] : 0);
      }
    const reference::Attention<double> oracle(shape_.lengths, shape_.heads, shape_.dim, kFirstAttentionPositions,
                                              Queries::first, dropout_);
    FirstAttentionExpected e;
    e.out = oracle.forward(query_, keys, value);
    const auto g = oracle.backward(dout_, query_, keys, value);
    e.dquery = g.query;
    e.din.resize(static_cast<std::size_t>(tokens * cols));
    e.dweight.resize(static_cast<std::size_t>(2 * cols * cols));
    e.dbias.resize(static_cast<std::size_t>(2 * cols));
    for (std::int64_t n = 0; n < tokens; ++n)
      for (std::int64_t o = 0; o < 2 * cols; ++o) {
        const double d = o < cols ? g.key[n * cols + o] : g.value[n * cols + o - cols];
        e.dbias[o] += d;
        for (std::int64_t i = 0; i < cols; ++i) {
          e.din[n * cols + i] += d * weight_[o * cols + i];
          e.dweight[o * cols + i] += d * in_[n * cols + i];
        }
      }
    return e;
  }

 private:
  FirstAttentionCase shape_;

 public:
  std::int64_t cols;
  testing::PackedSequences packed;
  std::int64_t tokens, rows;

 private:
  Dropout dropout_;
  bool biased_;
  Values query_, in_, weight_, bias_, dout_;

 public:
  StridedMatrix query, in, weight, bias, dout;
};

// Sums of up to C = 768 products of size about one, and of L of them: eight roundings relative to the whole, as in
// attention_test; the elements by an absolute bound because most of din and dweight is far smaller than its largest.
void expect_close(const FirstAttentionResults& actual, const FirstAttentionExpected& expected, const char* what) {
  SCOPED_TRACE(what);
  const auto close = [](const char* name, const std::vector<float>& a, const Values& e) {
    EXPECT_TRUE(all_close(a, e, 4e-5, 1e-5)) << name;
    double size = 0;
    for (const double value : e) size += value * value;
    // What is zero but for rounding (one key: the probability is 1 whatever the score) has no relative error.
    if (std::sqrt(size) > 1e-9) {
      EXPECT_LT((testing::relative_l2<float, double>(a, e)), 4e-6) << name;
    }
  };
  close("out", actual.out, expected.out);
  close("dquery", actual.dquery, expected.dquery);
  close("din", actual.din, expected.din);
  close("dweight", actual.dweight, expected.dweight);
  EXPECT_TRUE(all_close(actual.dbias, expected.dbias, 4e-5, 1e-5)) << "dbias";
}

class FirstAttention : public ::testing::TestWithParam<std::tuple<int, float, bool>> {
 protected:
  FirstAttentionOperands operands() const {
    return FirstAttentionOperands(kFirstAttentionCases[std::get<0>(GetParam())], std::get<1>(GetParam()),
                                  std::get<2>(GetParam()));
  }
};

TEST_P(FirstAttention, AgreesWithTheOracleAsDoesItsDefinition) {
  const FirstAttentionOperands on = operands();
  const auto kernels = make_cpu_kernels(Precision::fp32, 2);
  const FirstAttentionExpected expected = on.expected();
  expect_close(on.run(*kernels), expected, "without keys and values");
  expect_close(on.run<true>(*kernels), expected, "by the definition");
}

TEST_P(FirstAttention, GivesTheSameBitsAgainAndOnOtherThreads) {
  const FirstAttentionOperands on = operands();
  const auto one = make_cpu_kernels(Precision::fp32, 1), two = make_cpu_kernels(Precision::fp32, 2);
  const FirstAttentionResults first = on.run(*two);
  EXPECT_TRUE(on.run(*two) == first);
  EXPECT_TRUE(on.run(*one) == first);
}

INSTANTIATE_TEST_SUITE_P(Cases, FirstAttention,
                         ::testing::Combine(::testing::Range(0, static_cast<int>(std::size(kFirstAttentionCases))),
                                            ::testing::Values(0.0f, 0.1f), ::testing::Bool()));

// What a call before has left in memory that calls share, not even NaN, does not show.
TEST(FirstAttentionEdge, WhatCallsLeaveBehindDoesNotShow) {
  const FirstAttentionOperands before({{512}, 1, 26}, 0, true), on({{19, 5, 33}, 3, 26}, 0.1f, true);
  for (const Tensor& operand : {before.query.view, before.in.view, before.dout.view})
    for (std::int64_t r = 0; r < operand.rows; ++r)
      std::fill_n(operand.row(r), operand.cols, std::numeric_limits<float>::quiet_NaN());
  const auto used = make_cpu_kernels(Precision::fp32, 1), unused = make_cpu_kernels(Precision::fp32, 1);
  before.run(*used);
  EXPECT_TRUE(on.run(*used) == on.run(*unused));
}

TEST(FirstAttentionEdge, NotANumberStaysInItsSequenceAndIsNotHidden) {
  const auto kernels = make_cpu_kernels(Precision::fp32, 2);
  const FirstAttentionOperands on({{5, 20, 3}, 1, 26}, 0.1f, true);
  on.in.view.row(5 + 11)[4] = std::numeric_limits<float>::quiet_NaN();
  const FirstAttentionResults results = on.run(*kernels);
  for (std::size_t i = 0; i < results.out.size(); ++i) EXPECT_EQ(std::isnan(results.out[i]), i / 26 == 1) << i;
  for (std::size_t i = 0; i < results.din.size(); ++i)
    EXPECT_EQ(std::isnan(results.din[i]), i / 26 >= 5 && i / 26 < 25) << i;
}

TEST(FirstAttentionEdge, WrongShapesAreRefused) {
  const auto kernels = make_cpu_kernels(Precision::fp32, 1);
  const FirstAttentionOperands on({{5, 3}, 2, 26}, 0, true);
  StridedMatrix out(2, 52, 0), kept(8, 104, 0);
  const auto forward = [&](Tensor to, Tensor query, Tensor in, Tensor weight, Tensor bias) {
    kernels->first_attention_forward(to, kept.view, query, in, weight, bias, on.packed.batch, 2,
                                     kFirstAttentionPositions, {});
  };
  const Tensor q = on.query.view, x = on.in.view, w = on.weight.view, b = on.bias.view;
  EXPECT_NO_THROW(forward(out.view, q, x, w, b));
  EXPECT_THROW(forward(out.view.row_block(0, 1), q, x, w, b), std::logic_error);
  EXPECT_THROW(forward(out.view, q.row_block(0, 1), x, w, b), std::logic_error);
  EXPECT_THROW(forward(out.view, q, x.columns(0, 51), w, b), std::logic_error);
  EXPECT_THROW(forward(out.view, q, x, w.row_block(0, 103), b), std::logic_error);
  EXPECT_THROW(forward(out.view, q, x, w, b.columns(0, 52)), std::logic_error);
}

}  // namespace
}  // namespace ember
