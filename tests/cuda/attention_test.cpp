// CudaKernels::attention_forward and attention_backward against the double oracle and the CPU backend: lengths around
// the tiles, head dims with and without an instance of their own, every width of access, both kinds of queries, dropout
// with the CPU's mask, magnitudes at the edges of f16.
#include "tests/reference/attention.h"

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "tests/cuda/cuda_support.h"

namespace ember {
namespace {

using namespace testing;

constexpr std::int64_t kPositions = 514;  // not a multiple of 4

struct AttentionCase {
  std::vector<std::int64_t> lengths;
  std::int64_t heads, dim;
  Layout layout = {};  // of every matrix: their widest access follows from it
};

// Standard deviations of the operands.
struct Scales {
  float query = 1, key = 1, value = 1, dout = 1;
};

// To the 11 bits of an f16, of any exponent.
struct RoundBits {
  float operator()(float value) const {
    int exponent = 0;
    const float fraction = std::frexp(value, &exponent);
    return std::ldexp(std::nearbyint(std::ldexp(fraction, 11)), exponent - 11);
  }
};
// In f32, with the roundings that tensor cores ask for.
using Twin = reference::Attention<float, RoundBits>;

// One call's operands on the host, by which it is run on either backend.
struct Operands {
  Operands(const AttentionCase& shape, Queries queries, float probability, const Scales& scales = {})
      : shape(shape),
        cols(shape.heads * shape.dim),
        packed(shape.lengths, 100, 1),
        tokens(packed.batch.tokens),
        rows(queries == Queries::all ? tokens : packed.batch.sequences),
        queries(queries),
        dropout{probability, 0x123456789abcdef0u, 0x201, 77},
        query(draw_halves(rows * cols, 1, scales.query)),
        key(draw_halves(tokens * cols, 2, scales.key)),
        value(draw_halves(tokens * cols, 3, scales.value)),
        dout(draw_halves(rows * cols, 4, scales.dout)) {}

  // The oracle or the twin.
  template <typename Reference>
  Reference reference() const {
    return Reference(shape.lengths, shape.heads, shape.dim, positions, queries, dropout);
  }

  AttentionCase shape;
  std::int64_t cols;
  testing::PackedSequences packed;
  std::int64_t tokens, rows;
  Queries queries;
  Dropout dropout;
  std::int64_t positions = kPositions;
  std::vector<double> query, key, value, dout;
};

// Operands and results on the device. Query, key and value are blocks of columns of one matrix, as the model has them,
// or for Queries::first the query is a matrix of its own; so are their gradients.
struct OnDevice {
  explicit OnDevice(const Operands& on)
      : on(on),
        qkv(DType::f16, on.tokens, 3 * on.cols, beside(on), on.shape.layout),
        first_query(DType::f16, on.rows, on.cols, on.query, on.shape.layout),
        dout(DType::f16, on.rows, on.cols, on.dout, on.shape.layout),
        out(DType::f16, on.rows, on.cols, {}, on.shape.layout),
        dqkv(DType::f16, on.tokens, 3 * on.cols, {}, on.shape.layout),
        first_dquery(DType::f16, on.rows, on.cols, {}, on.shape.layout),
        batch(on.packed) {}

  static std::vector<double> beside(const Operands& on) {
    std::vector<double> values;
    for (std::int64_t row = 0; row < on.tokens; ++row)
      for (const std::vector<double>* part : {&on.query, &on.key, &on.value}) {
        const bool absent = part == &on.query && on.queries == Queries::first;
        for (std::int64_t c = 0; c < on.cols; ++c)
          values.push_back(absent ? 0 : (*part)[static_cast<std::size_t>(row * on.cols + c)]);
      }
    return values;
  }
  bool all() const { return on.queries == Queries::all; }
  Tensor query() const { return all() ? qkv.view.columns(0, on.cols) : first_query.view; }
  Tensor key() const { return qkv.view.columns(on.cols, on.cols); }
  Tensor value() const { return qkv.view.columns(2 * on.cols, on.cols); }

  void forward() const {
    device().attention_forward(out.view, query(), key(), value(), batch.batch, on.shape.heads, on.positions, on.queries,
                               on.dropout);
  }
  void backward() const {
    device().attention_backward(all() ? dqkv.view.columns(0, on.cols) : first_dquery.view,
                                dqkv.view.columns(on.cols, on.cols), dqkv.view.columns(2 * on.cols, on.cols), dout.view,
                                query(), key(), value(), batch.batch, on.shape.heads, on.positions, on.queries,
                                on.dropout);
  }
  // out, dquery, dkey, dvalue. The surroundings of all must be intact, and so must what was not to be written.
  Results results() const {
    const Results all_of = testing::device_results({&out, &first_dquery, &dqkv});
    Results parts{all_of[0], all_of[1], {}, {}};
    if (all()) parts[1].clear();
    for (std::size_t i = 0; i < all_of[2].size(); ++i) {
      const std::size_t part = i / static_cast<std::size_t>(on.cols) % 3;
      if (part > 0 || all())
        parts[part + 1].push_back(all_of[2][i]);
      else
        EXPECT_TRUE(std::isnan(all_of[2][i]));
    }
    return parts;
  }

  const Operands& on;
  DeviceMatrix qkv, first_query, dout, out, dqkv, first_dquery;
  DeviceBatch batch;
};

// out, dquery, dkey, dvalue.
Results run(const Operands& on) {
  const OnDevice there(on);
  there.forward();
  there.backward();
  return there.results();
}
Results run_cpu(const Operands& on) {
  // One thread: OpenMP's runtime looks like races to TSan.
  static const auto kernels = make_cpu_kernels(Precision::fp32, 1);
  std::vector<float> q = floats(on.query), k = floats(on.key), v = floats(on.value), d = floats(on.dout);
  std::vector<float> out(q.size()), dq(q.size()), dk(k.size()), dv(v.size());
  const auto by_query = [&](std::vector<float>& values) { return matrix(values.data(), on.rows, on.cols); };
  const auto by_token = [&](std::vector<float>& values) { return matrix(values.data(), on.tokens, on.cols); };
  kernels->attention_forward(by_query(out), by_query(q), by_token(k), by_token(v), on.packed.batch, on.shape.heads,
                             on.positions, on.queries, on.dropout);
  kernels->attention_backward(by_query(dq), by_token(dk), by_token(dv), by_query(d), by_query(q), by_token(k),
                              by_token(v), on.packed.batch, on.shape.heads, on.positions, on.queries, on.dropout);
  return {out, dq, dk, dv};
}

template <typename Reference, typename T>
std::vector<std::vector<T>> run_reference(const Operands& on, const std::vector<T>& query, const std::vector<T>& key,
                                          const std::vector<T>& value, const std::vector<T>& dout) {
  const auto reference = on.reference<Reference>();
  const auto gradients = reference.backward(dout, query, key, value);
  return {reference.forward(query, key, value), gradients.query, gradients.key, gradients.value};
}

// Against the oracle and against the CPU backend. The floor lets the worst of a few elements be off by more where the
// twin's happens to be lucky: an eighth of what one rounding can cost the largest, and f16's smallest step. `rows`: so
// many at a time, each against their own largest; 0: all together.
void expect_oracle(const Operands& on, const Results& actual, std::int64_t rows = 0) {
  const auto expected = run_reference<reference::Attention<double>>(on, on.query, on.key, on.value, on.dout);
  const auto twins = run_reference<Twin>(on, floats(on.query), floats(on.key), floats(on.value), floats(on.dout));
  const Results cpu = run_cpu(on);
  const char* const names[] = {"out", "dquery", "dkey", "dvalue"};
  for (std::size_t i = 0; i < 4; ++i) {
    const auto twin = to_halves(twins[i]);
    const auto of_cpu = doubles(cpu[i]);
    const std::size_t size = expected[i].size(), step = rows == 0 ? size : static_cast<std::size_t>(rows * on.cols);
    for (std::size_t begin = 0; begin < size; begin += step) {
      SCOPED_TRACE(::testing::Message() << names[i] << " from element " << begin << " on");
      const auto part = [&](const auto& all) {
        using Part = std::decay_t<decltype(all)>;
        const auto first = all.begin() + static_cast<std::ptrdiff_t>(begin);
        return Part(first, first + static_cast<std::ptrdiff_t>(std::min(step, size - begin)));
      };
      double largest = 0;
      for (const double value : part(expected[i])) largest = std::max(largest, std::fabs(value));
      const double floor = std::ldexp(largest, -14) + testing::kSmallestHalf;
      EXPECT_TRUE(testing::near_twin(part(actual[i]), part(twin), part(expected[i]), floor));
      EXPECT_TRUE(testing::near_twin(part(actual[i]), part(twin), part(of_cpu), floor)) << "against the CPU";
    }
  }
}
void expect_oracle(const Operands& on) {
  expect_oracle(on, run(on));
}

std::vector<std::int64_t> batch_of_33() {
  std::vector<std::int64_t> lengths{19, 1, 2, 31, 64, 65, 33, 7, 8, 9, 15, 16, 17};
  while (lengths.size() < 33) lengths.push_back(1 + static_cast<std::int64_t>(lengths.size() * 7 % 23));
  return lengths;
}

const AttentionCase kAttentionCases[] = {
    {{1}, 2, 26, {2}},
    {{2}, 2, 26, {2}},
    {{31}, 2, 26, {2}},
    {{32}, 2, 26, {0, 2}},
    {{33}, 2, 26, {6}},
    {{127}, 1, 26, {2}},
    {{128}, 1, 26, {2}},
    {{129}, 2, 26, {2}},
    {{512}, 1, 26, {2}},
    {{19, 8}, 12, 26},  // TinyBERT's heads
    {batch_of_33(), 3, 26, {2}},
    {{33, 1, 20}, 2, 26, {1}},   // odd strides: halves one by
                                 // one
    {{33}, 2, 26, {0, 1}},       // an odd address
    {{1, 31, 129}, 2, 32, {8}},  // 16-byte accesses
    {{33}, 2, 32, {2}},          // pairs only, by the stride
    {{33}, 2, 32, {0, 4}},       // pairs only, by the address
    {{2, 128}, 2, 64, {8}},      // 16-byte accesses
    {{33}, 1, 64, {3}},          // halves one by one
    {{193}, 1, 64, {0}},         // 16-byte accesses, a last tile of one key
    {{1, 33, 130}, 2, 13, {2}},  // an odd head dim
    {{17}, 1, 13, {1}},          // and even strides
    {{40, 2, 129}, 2, 48, {8}},  // through the instance of 64, 16-byte accesses
    {{33}, 2, 50, {0}},          // through the instance of 64, pairs
    {{21}, 2, 8, {0}},           // one 16-byte access a row
    {{5, 40}, 3, 1, {0}},        // a head of one column
};

class Attention : public ::testing::TestWithParam<std::tuple<int, Queries, float>> {
 protected:
  Operands operands() const {
    return Operands(kAttentionCases[std::get<0>(GetParam())], std::get<1>(GetParam()), std::get<2>(GetParam()));
  }
};

TEST_P(Attention, AgreesWithTheOracleAndRepeatsItsBits) {
  const Operands on = operands();
  expect_oracle(on, testing::run_twice([&] { return run(on); }));
}

INSTANTIATE_TEST_SUITE_P(Cases, Attention,
                         ::testing::Combine(::testing::Range(0, static_cast<int>(std::size(kAttentionCases))),
                                            ::testing::Values(Queries::all, Queries::first),
                                            ::testing::Values(0.0f, 0.1f)));

// The layer that only [CLS] asks in sees what it would see in a layer where all ask.
TEST(AttentionQueries, FirstHasTheBitsOfTheFirstRowsOfAll) {
  const AttentionCase shape{{20, 1, 70, 33}, 2, 26, {2}};
  const Operands all(shape, Queries::all, 0.5f);
  Operands first(shape, Queries::first, 0.5f);
  const auto out = run(all)[0];
  std::vector<float> expected;
  for (std::int64_t b = 0; b < first.rows; ++b) {
    const auto row = all.packed.batch.cu_seqlens[b] * all.cols;
    std::copy_n(all.query.begin() + row, all.cols, first.query.begin() + b * all.cols);
    expected.insert(expected.end(), out.begin() + row, out.begin() + row + all.cols);
  }
  EXPECT_EQ(run(first)[0], expected);
}

// Survivors are those of the CPU backend, element by element: with equal scores and values that are powers of two, each
// output is a sum that tells which keys survived.
TEST(AttentionDropout, HasTheMaskOfTheCpu) {
  constexpr std::int64_t kMany = std::int64_t{1} << 33;  // the number of a random block outgrows 32 bits
  for (const std::int64_t positions : {kPositions, kMany})
    for (const Queries queries : {Queries::all, Queries::first}) {
      Operands on({{10, 3, 9}, 2, 26, {2}}, queries, 0.5f, {.query = 0});
      on.positions = positions;
      for (std::int64_t i = 0; i < on.tokens * on.cols; ++i)
        on.value[static_cast<std::size_t>(i)] = std::ldexp(1.0, static_cast<int>(i / on.cols % 10));
      const auto expected = run_cpu(on)[0], out = run(on)[0];
      // The sums differ by one part in 1024 at least, and are computed to one in 2048.
      for (std::size_t i = 0; i < out.size(); ++i) EXPECT_NEAR(out[i], expected[i], expected[i] / 2000) << i;
    }
}

// As on the CPU, a word that is the threshold itself survives.
TEST(AttentionDropout, TheThresholdItselfSurvives) {
  constexpr std::int64_t kLength = 40;
  Operands on({{kLength}, 1, 26, {2}}, Queries::all, 0.5f, {.query = 0});
  int found = 0;
  for (std::int64_t query = 0; query < kLength; ++query)
    for (std::int64_t key = 0; key < kLength; ++key) {
      const auto block = static_cast<std::uint64_t>(query * ((kPositions + 3) / 4) + key / 4);
      const std::uint32_t word = random_block(on.dropout.seed, on.dropout.site, on.dropout.step, block)[key % 4];
      if (word % 256 != 0) continue;
      on.dropout.probability = std::ldexp(static_cast<float>(word / 256), -24);
      ASSERT_EQ(on.dropout.threshold(), word);
      for (std::int64_t i = 0; i < kLength * on.cols; ++i)
        on.value[static_cast<std::size_t>(i)] = i / on.cols == key ? 1 : 0;
      EXPECT_GT(run(on)[0][static_cast<std::size_t>(query * on.cols)], 0) << query << ", " << key;
      ++found;
    }
  EXPECT_GT(found, 0);
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
      Operands on({{33, 130}, 1, 26, {2}}, Queries::all, probability, scale);
      expect_oracle(on);
    }
}

// Scores of 1e9 and more: one key has all the probability, in f32 as in the oracle.
TEST(AttentionEdge, ScoresOfTheLargestOperands) {
  Operands on({{33, 70}, 2, 26, {2}}, Queries::all, 0, {.query = 15000, .key = 15000});
  expect_oracle(on);
}

// Gradients that grow from query to query by 2^20 in all, so that every tile of them brings a new scale, and that fall.
TEST(AttentionEdge, GradientsOfManyMagnitudes) {
  for (const double factor : {1.125, 1 / 1.125}) {
    Operands on({{150}, 1, 26, {2}}, Queries::all, 0.1f, {.dout = factor > 1 ? 1e-5f : 300});
    for (std::int64_t i = 0; i < on.rows * on.cols; ++i) {
      double& gradient = on.dout[static_cast<std::size_t>(i)];
      gradient = to_half(gradient * std::pow(factor, static_cast<double>(i / on.cols)));
    }
    // Those of a warp, since beside the largest of all a small one could be anything.
    expect_oracle(on, run(on), 16);
  }
}

TEST(AttentionEdge, WhatIsNotFiniteStaysInItsSequenceAndIsNotHidden) {
  for (const double bad : {std::nan(""), std::numeric_limits<double>::infinity()}) {
    Operands on({{5, 20, 3}, 1, 26, {2}}, Queries::all, 0.1f);
    on.key[static_cast<std::size_t>((5 + 11) * on.cols + 4)] = bad;
    const Results results = run(on);
    for (std::int64_t i = 0; i < on.tokens * on.cols; ++i) {
      const auto place = static_cast<std::size_t>(i);
      const bool in_sequence = i >= 5 * on.cols && i < 25 * on.cols;
      // A score of minus infinity is a probability of zero; the gradient of the query shows it all the same.
      if (in_sequence && std::isinf(bad)) continue;
      for (const auto& result : results) EXPECT_EQ(std::isfinite(result[place]), !in_sequence) << i;
    }
    const auto& dquery = results[1];
    EXPECT_FALSE(std::isfinite(dquery[static_cast<std::size_t>(5 * on.cols + 4)]));
  }
}

TEST(AttentionEdge, GradientsThatOverflowAreSeen) {
  Operands on({{20, 3}, 1, 26, {2}}, Queries::all, 0);
  on.dout[3] = std::numeric_limits<double>::infinity();
  const Results results = run(on);
  const auto finite = [](const std::vector<float>& values, std::int64_t begin, std::int64_t end) {
    return std::all_of(values.begin() + begin, values.begin() + end, [](float x) { return std::isfinite(x); });
  };
  EXPECT_TRUE(finite(results[0], 0, 23 * on.cols));
  for (std::size_t i = 1; i < 4; ++i) {
    EXPECT_FALSE(finite(results[i], 0, 20 * on.cols));
    EXPECT_TRUE(finite(results[i], 20 * on.cols, 23 * on.cols));
  }
}

// ---- What is refused ----------------------------------------------------------------------------------------------

TEST(AttentionEdge, AnEmptyBatchIsLeftAlone) {
  const Tensor none = matrix(nullptr, 0, 52, DType::f16);
  device().attention_forward(none, none, none, none, {}, 2, 4, Queries::all, {});
  device().attention_backward(none, none, none, none, none, none, none, {}, 2, 4, Queries::all, {});
}

TEST(AttentionEdge, WrongShapesAreRefused) {
  const Operands on({{5, 3}, 2, 26, {2}}, Queries::all, 0);
  const OnDevice there(on);
  const Tensor q = there.query(), k = there.key(), v = there.value(), out = there.out.view;
  const Batch& batch = there.batch.batch;
  const auto forward = [&](Tensor to, Tensor query, Tensor key, std::int64_t heads, std::int64_t positions) {
    device().attention_forward(to, query, key, v, batch, heads, positions, Queries::all, {});
  };
  EXPECT_NO_THROW(forward(out, q, k, 2, 5));
  EXPECT_THROW(forward(out, q, k, 3, 5), std::logic_error);
  EXPECT_THROW(forward(out, q, k, 2, 4), std::logic_error);
  EXPECT_THROW(forward(out, q.row_block(0, 7), k, 2, 5), std::logic_error);
  EXPECT_THROW(forward(out, q, k.columns(0, 26), 2, 5), std::logic_error);
  EXPECT_THROW(forward(out.row_block(0, 7), q, k, 2, 5), std::logic_error);
  Batch of_nothing = batch;
  of_nothing.tokens = of_nothing.max_length = 0;
  const Tensor none = q.row_block(0, 0);
  EXPECT_THROW(device().attention_forward(none, none, none, none, of_nothing, 2, 5, Queries::all, {}),
               std::logic_error);
  Tensor in_floats = k;
  in_floats.dtype = DType::f32;
  EXPECT_THROW(forward(out, q, in_floats, 2, 5), std::logic_error);
  EXPECT_THROW(device().attention_backward(q, k.row_block(1, 7), v, out, q, k, v, batch, 2, 5, Queries::all, {}),
               std::logic_error);
}

// BertWeights refuses such a model with an error for the user (tests/cuda/training_test.cpp).
TEST(AttentionEdge, AHeadOfTooManyColumnsIsRefused) {
  const Operands on({{5}, 1, device().most_head_columns() + 2, {2}}, Queries::all, 0);
  EXPECT_THROW(OnDevice(on).forward(), std::logic_error);
  EXPECT_THROW(OnDevice(on).backward(), std::logic_error);
}

}  // namespace
}  // namespace ember
