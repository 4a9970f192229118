// attention_forward and attention_backward against the double oracle: lengths around panels and query blocks, odd head
// dims, both kinds of queries, dropout, operands inside wider matrices.
#include "tests/reference/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "tests/kernels/packed_sequences.h"
#include "tests/kernels/reproducible.h"

namespace ember {
namespace {

using testing::all_close;
using testing::draw;
using testing::StridedMatrix;

constexpr std::int64_t kPositions = 514;  // not a multiple of 4

struct AttentionCase {
  std::vector<std::int64_t> lengths;
  std::int64_t heads, dim;
};

std::vector<std::int64_t> batch_of_33() {
  std::vector<std::int64_t> lengths{19, 1, 512, 2, 3, 31, 32, 33, 35, 36, 37, 72, 73, 127, 128, 129};
  while (lengths.size() < 33) lengths.push_back(5 + static_cast<std::int64_t>(lengths.size() * 7 % 23));
  return lengths;
}

const AttentionCase kAttentionCases[] = {
    {{1}, 2, 26},   {{2}, 2, 26},   {{3}, 1, 26},           {{31}, 2, 26},          {{32}, 2, 26},
    {{33}, 2, 26},  {{127}, 1, 26}, {{128}, 2, 26},         {{129}, 1, 26},         {{512}, 2, 26},
    {{19}, 12, 26}, {{31}, 2, 32},  {{19}, 12, 64},         {{33}, 1, 64},          {{5, 40}, 3, 1},
    {{37}, 1, 256}, {{21}, 2, 16},  {batch_of_33(), 5, 26}, {batch_of_33(), 2, 32}, {batch_of_33(), 1, 64},
};

// The operands of one call. Query, key and value are blocks of columns of one matrix, as the model has them, or for
// Queries::first the query is a matrix of its own; so are their gradients.
struct Operands {
  Operands(const AttentionCase& shape, Queries queries, float probability, float query_scale = 1)
      : heads(shape.heads),
        cols(shape.heads * shape.dim),
        packed(shape.lengths, 100, 1),
        batch(packed.batch),
        tokens(batch.tokens),
        rows(queries == Queries::all ? tokens : static_cast<std::int64_t>(shape.lengths.size())),
        queries(queries),
        dropout{probability, 0x123456789abcdef0u, 0x201, 77},
        oracle(shape.lengths, shape.heads, shape.dim, kPositions, queries, dropout),
        query(draw(rows * cols, 1, query_scale)),
        key(draw(tokens * cols, 2)),
        value(draw(tokens * cols, 3)),
        dout(draw(rows * cols, 4)),
        qkv(tokens, 3 * cols, 5),
        dqkv(tokens, 3 * cols, 5),
        first_query(rows, cols, 3),
        first_dquery(rows, cols, 3),
        out(rows, cols, 7),
        dout_view(rows, cols, 2, dout) {
    fill(query_view(), query);
    fill(key_view(), key);
    fill(value_view(), value);
  }

  static void fill(Tensor to, const std::vector<double>& values) {
    for (std::int64_t i = 0; i < to.size(); ++i)
      to.row(i / to.cols)[i % to.cols] = static_cast<float>(values[static_cast<std::size_t>(i)]);
  }
  static std::vector<float> read(Tensor from) {
    std::vector<float> values;
    for (std::int64_t r = 0; r < from.rows; ++r) values.insert(values.end(), from.row(r), from.row(r) + from.cols);
    return values;
  }

  Tensor query_view() const { return queries == Queries::all ? qkv.view.columns(0, cols) : first_query.view; }
  Tensor key_view() const { return qkv.view.columns(cols, cols); }
  Tensor value_view() const { return qkv.view.columns(2 * cols, cols); }
  Tensor dquery_view() const { return queries == Queries::all ? dqkv.view.columns(0, cols) : first_dquery.view; }

  std::vector<float> forward(Kernels& kernels) const {
    kernels.attention_forward(out.view, query_view(), key_view(), value_view(), batch, heads, kPositions, queries,
                              dropout);
    EXPECT_TRUE(out.intact());
    return out.values();
  }
  // The gradients of query, key and value.
  std::array<std::vector<float>, 3> backward(Kernels& kernels) const {
    const Tensor dkey = dqkv.view.columns(cols, cols), dvalue = dqkv.view.columns(2 * cols, cols);
    kernels.attention_backward(dquery_view(), dkey, dvalue, dout_view.view, query_view(), key_view(), value_view(),
                               batch, heads, kPositions, queries, dropout);
    EXPECT_TRUE(dqkv.intact() && first_dquery.intact());
    return {read(dquery_view()), read(dkey), read(dvalue)};
  }

  std::int64_t heads, cols;
  testing::PackedSequences packed;
  const Batch& batch;
  std::int64_t tokens, rows;
  Queries queries;
  Dropout dropout;
  reference::Attention<double> oracle;
  std::vector<double> query, key, value, dout;
  StridedMatrix qkv, dqkv, first_query, first_dquery, out, dout_view;
};

// On the relative L2 error: four times the largest that was seen, 5e-7, which is some eight roundings to fp32.
constexpr double kBound = 2e-6;

class Attention : public ::testing::TestWithParam<std::tuple<int, Queries, float>> {
 protected:
  const AttentionCase& shape() const { return kAttentionCases[std::get<0>(GetParam())]; }
  Operands operands() const { return Operands(shape(), std::get<1>(GetParam()), std::get<2>(GetParam())); }
};

TEST_P(Attention, AgreesWithTheOracle) {
  const Operands on = operands();
  const auto kernels = make_cpu_kernels(Precision::fp32, 2);
  const auto expected = on.oracle.forward(on.query, on.key, on.value);
  const auto out = on.forward(*kernels);
  EXPECT_LT((testing::relative_l2<float, double>(out, expected)), kBound);
  EXPECT_TRUE(all_close(out, expected, 4e-6, 4e-6));

  const auto gradients = on.oracle.backward(on.dout, on.query, on.key, on.value);
  const auto [dquery, dkey, dvalue] = on.backward(*kernels);
  // A single key has probability 1 whatever the score, so these two gradients are zero and only noise can differ.
  const double noise = 1e-5;
  EXPECT_TRUE(all_close(dquery, gradients.query, noise, 1e-5));
  EXPECT_TRUE(all_close(dkey, gradients.key, noise, 1e-5));
  EXPECT_TRUE(all_close(dvalue, gradients.value, noise, 1e-5));
  if (on.batch.max_length > 1) {
    EXPECT_LT((testing::relative_l2<float, double>(dquery, gradients.query)), kBound);
    EXPECT_LT((testing::relative_l2<float, double>(dkey, gradients.key)), kBound);
  }
  EXPECT_LT((testing::relative_l2<float, double>(dvalue, gradients.value)), kBound);
}

TEST_P(Attention, GivesTheSameBitsAgainAndOnOtherThreads) {
  const Operands on = operands();
  const auto two = make_cpu_kernels(Precision::fp32, 2);
  const auto out = on.forward(*two);
  const auto gradients = on.backward(*two);
  EXPECT_EQ(on.forward(*two), out);
  EXPECT_EQ(on.backward(*two), gradients);
  const auto one = make_cpu_kernels(Precision::fp32, 1);
  EXPECT_EQ(on.forward(*one), out);
  EXPECT_EQ(on.backward(*one), gradients);
}

INSTANTIATE_TEST_SUITE_P(Cases, Attention,
                         ::testing::Combine(::testing::Range(0, static_cast<int>(std::size(kAttentionCases))),
                                            ::testing::Values(Queries::all, Queries::first),
                                            ::testing::Values(0.0f, 0.1f)));

// The layer that only [CLS] asks in sees what it would see in a layer where all ask.
TEST(AttentionQueries, FirstHasTheBitsOfTheFirstRowsOfAll) {
  const auto kernels = make_cpu_kernels(Precision::fp32, 2);
  for (const AttentionCase& shape : kAttentionCases)
    for (const float probability : {0.0f, 0.5f}) {
      const Operands all(shape, Queries::all, probability), first(shape, Queries::first, probability);
      const auto out = all.forward(*kernels);
      std::vector<float> expected;
      for (std::int64_t b = 0; b < first.rows; ++b) {
        const std::int64_t row = all.batch.cu_seqlens[b];
        std::copy_n(all.query_view().row(row), all.cols, first.query_view().row(b));
        expected.insert(expected.end(), out.begin() + row * all.cols, out.begin() + (row + 1) * all.cols);
      }
      EXPECT_EQ(first.forward(*kernels), expected);
    }
}

TEST(AttentionEdge, LargeScoresDoNotOverflow) {
  const auto kernels = make_cpu_kernels(Precision::fp32, 1);
  const Operands on({{33, 7}, 2, 26}, Queries::all, 0, 300);  // scores of about 300 times a unit normal
  const auto expected = on.oracle.forward(on.query, on.key, on.value);
  // A score of 1000 is off by 1e-4 in fp32, its exponential relatively by as much.
  EXPECT_LT((testing::relative_l2<float, double>(on.forward(*kernels), expected)), 1e-4);
}

// All keys of a row share the probability, however far below zero their scores are.
TEST(AttentionEdge, SmallScoresDoNotVanish) {
  const auto kernels = make_cpu_kernels(Precision::fp32, 1);
  Operands on({{33, 1, 7}, 2, 26}, Queries::all, 0);
  std::fill(on.query.begin(), on.query.end(), 30);
  std::fill(on.key.begin(), on.key.end(), -30);
  Operands::fill(on.query_view(), on.query);
  Operands::fill(on.key_view(), on.key);
  const auto expected = on.oracle.forward(on.query, on.key, on.value);
  EXPECT_LT((testing::relative_l2<float, double>(on.forward(*kernels), expected)), kBound);
}

// What a call before has left in memory that calls share, not even NaN, does not show.
TEST(AttentionEdge, WhatCallsLeaveBehindDoesNotShow) {
  const Operands before({{512}, 1, 26}, Queries::all, 0), on({{19, 5, 33}, 2, 26}, Queries::all, 0.1f);
  std::vector<double> nan(static_cast<std::size_t>(before.tokens * before.cols), std::nan(""));
  for (const Tensor& operand : {before.query_view(), before.key_view(), before.value_view()})
    Operands::fill(operand, nan);
  const auto used = make_cpu_kernels(Precision::fp32, 1), unused = make_cpu_kernels(Precision::fp32, 1);
  before.backward(*used);
  EXPECT_EQ(on.forward(*used), on.forward(*unused));
  before.backward(*used);
  EXPECT_EQ(on.backward(*used), on.backward(*unused));
}

TEST(AttentionEdge, NotANumberStaysInItsSequenceAndIsNotHidden) {
  const auto kernels = make_cpu_kernels(Precision::fp32, 2);
  const Operands on({{5, 20, 3}, 1, 26}, Queries::all, 0.1f);
  on.key_view().row(5 + 11)[4] = std::numeric_limits<float>::quiet_NaN();
  const auto out = on.forward(*kernels);
  const auto gradients = on.backward(*kernels);
  for (std::int64_t i = 0; i < on.tokens * on.cols; ++i) {
    const bool in_sequence = i >= 5 * on.cols && i < 25 * on.cols;
    EXPECT_EQ(std::isnan(out[static_cast<std::size_t>(i)]), in_sequence) << i;
    for (const auto& gradient : gradients) EXPECT_EQ(std::isnan(gradient[static_cast<std::size_t>(i)]), in_sequence);
  }
}

TEST(AttentionEdge, AnEmptyBatchIsLeftAlone) {
  const auto kernels = make_cpu_kernels(Precision::fp32, 2);
  const std::int32_t offsets[] = {0};
  Batch batch;
  batch.cu_seqlens = offsets;
  const Tensor none = matrix(nullptr, 0, 52);
  kernels->attention_forward(none, none, none, none, batch, 2, 4, Queries::all, {});
  kernels->attention_backward(none, none, none, none, none, none, none, batch, 2, 4, Queries::all, {});
}

TEST(AttentionEdge, WrongLengthsAreRefused) {
  const auto kernels = make_cpu_kernels(Precision::fp32, 1);
  const Operands on({{5, 3}, 2, 26}, Queries::all, 0);
  const auto forward = [&](const Batch& batch) {
    kernels->attention_forward(on.out.view, on.query_view(), on.key_view(), on.value_view(), batch, 2, 5, Queries::all,
                               {});
  };
  Batch short_maximum = on.batch, empty_sequence = on.batch;
  short_maximum.max_length = 4;
  EXPECT_THROW(forward(short_maximum), std::logic_error);
  const std::int32_t offsets[] = {0, 5, 5, 8};
  empty_sequence.cu_seqlens = offsets;
  empty_sequence.sequences = 3;
  EXPECT_THROW(forward(empty_sequence), std::logic_error);
}

TEST(AttentionEdge, WrongShapesAreRefused) {
  const auto kernels = make_cpu_kernels(Precision::fp32, 1);
  const Operands on({{5, 3}, 2, 26}, Queries::all, 0);
  const Tensor q = on.query_view(), k = on.key_view(), v = on.value_view(), out = on.out.view;
  const auto forward = [&](Tensor to, Tensor query, Tensor key, std::int64_t heads, std::int64_t positions) {
    kernels->attention_forward(to, query, key, v, on.batch, heads, positions, Queries::all, {});
  };
  EXPECT_NO_THROW(forward(out, q, k, 2, 5));
  EXPECT_THROW(forward(out, q, k, 3, 5), std::logic_error);
  EXPECT_THROW(forward(out, q, k, 2, 4), std::logic_error);
  EXPECT_THROW(forward(out, q.row_block(0, 7), k, 2, 5), std::logic_error);
  EXPECT_THROW(forward(out, q, k.columns(0, 26), 2, 5), std::logic_error);
  EXPECT_THROW(forward(out.row_block(0, 7), q, k, 2, 5), std::logic_error);
  EXPECT_THROW(kernels->attention_backward(q, k.row_block(1, 7), v, out, q, k, v, on.batch, 2, 5, Queries::all, {}),
               std::logic_error);
}

}  // namespace
}  // namespace ember
