// Every rung of the ladders in bench/variants, the shipped kernels at the top among them, against the double oracles.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <deque>
#include <memory>

#include "bench/variants/schedule.h"
#include "tests/reference/adamw.h"
#include "tests/reference/attention.h"
#include "tests/reference/layernorm.h"
#include "tests/variants/backend.h"

namespace ember {

namespace variants {

template <typename Call>
void PrintTo(const Rung<Call>& rung, std::ostream* out) {
  *out << rung.name;
}

}  // namespace variants

namespace {

using testing::agrees;
using testing::Array;
using testing::draw;
using testing::kActivations;
using testing::ladders;
using testing::Layout;
using testing::Matrix;
using testing::OwnBatch;
using testing::stored;
using variants::AdamWCall;
using variants::AttentionCall;
using variants::LayerNormCall;
using variants::Rung;

constexpr DType kFloat = DType::f32;
const auto kName = [](const auto& tested) { return tested.param.name; };

std::vector<float> floats(const std::vector<double>& values) {
  return {values.begin(), values.end()};
}

template <typename Call>
void run(const Rung<Call>& rung, const Call& call) {
  ladders().synchronize();
  rung.run(call);
  ladders().synchronize();
}

// ---- LayerNorm ------------------------------------------------------------------------------------------------------

struct LayerNormCase {
  std::int64_t rows, cols;
  float probability;
  Layout layout = {};
  bool sum_is_in = false;
};

// Columns that fill vectors, that do not, that do not fit the registers; rows that cannot be read as vectors.
const LayerNormCase kLayerNormCases[] = {{33, 312, 0.1f}, {9, 312, 0, {4, 0}, true}, {9, 312, 0.1f, {3, 1}},
                                         {10, 30, 0.5f},  {2, 1032, 0.1f},           {1, 4, 0}};

class LayerNormRungs : public ::testing::TestWithParam<Rung<LayerNormCall>> {};

TEST_P(LayerNormRungs, AgreesWithTheOracle) {
  for (const auto& [rows, cols, probability, layout, sum_is_in] : kLayerNormCases) {
    SCOPED_TRACE(::testing::Message() << rows << " x " << cols << ", gap " << layout.gap);
    const Dropout dropout{probability, 0x123456789abcdef0u, 0x302, 77};
    const auto in = stored(draw(rows * cols, 1)), residual = stored(draw(rows * cols, 3)), bias = draw(cols, 2),
               weight = draw(cols, 4), shift = draw(cols, 5);
    const Matrix in_(kActivations, rows, cols, in, layout), residual_(kActivations, rows, cols, residual, layout),
        bias_(kFloat, 1, cols, bias), weight_(kFloat, 1, cols, weight), shift_(kFloat, 1, cols, shift),
        out(kActivations, rows, cols, {}, layout), own_sum(kActivations, rows, cols, {}, layout), mean(kFloat, 1, rows),
        rstd(kFloat, 1, rows);
    const Matrix& sum = sum_is_in ? in_ : own_sum;
    run(GetParam(), LayerNormCall{out.view,
                                  sum.view,
                                  {mean.view, rstd.view},
                                  in_.view,
                                  bias_.view,
                                  residual_.view,
                                  {weight_.view, shift_.view},
                                  1e-12f,
                                  dropout});
    for (const Matrix* output : {&out, &sum, &mean, &rstd}) EXPECT_TRUE(output->intact());
    const reference::ResidualLayerNorm<double> oracle{{weight, shift, 1e-12f}, dropout};
    const reference::ResidualLayerNorm<float> twin{{floats(weight), floats(shift), 1e-12f}, dropout};
    const auto expected = oracle.sum(in, bias, residual);
    const auto twins = stored(twin.sum(floats(in), floats(bias), floats(residual)));
    const auto moments = oracle.norm.statistics(expected);
    const auto twin_moments = twin.norm.statistics(twins);
    // The bounds of tests/kernels/layernorm_test.cpp and tests/cuda/layernorm_test.cpp.
    EXPECT_TRUE(agrees(sum.values(), twins, expected, 4e-6));
    EXPECT_TRUE(agrees(mean.values(), twin_moments.mean, moments.mean, 4e-6));
    EXPECT_TRUE(agrees(rstd.values(), twin_moments.rstd, moments.rstd, 4e-6));
    EXPECT_TRUE(agrees(out.values(), stored(twin.norm.forward(twins)), oracle.norm.forward(expected), 1e-5));
  }
}

INSTANTIATE_TEST_SUITE_P(Ladder, LayerNormRungs, ::testing::ValuesIn(ladders().layernorm), kName);

// ---- Attention ------------------------------------------------------------------------------------------------------

struct AttentionCase {
  std::vector<std::int64_t> lengths;
  std::int64_t heads, dim;
  float probability;
};

// Several lengths in a batch, around a tile of 64 keys; TinyBERT's head dim, the largest one, and an odd one.
const AttentionCase kAttentionCases[] = {
    {{19, 1, 65, 8}, 2, 26, 0.1f}, {{7, 64}, 1, 64, 0}, {{3, 5}, 3, 13, 0.5f}, {{1}, 12, 26, 0}};
constexpr std::int64_t kPositions = 66;  // not a multiple of 4

// To the 11 bits of an f16, where a backend rounds the probabilities to f16.
struct RoundProbabilities {
  float operator()(float value) const {
    if (kActivations == DType::f32) return value;
    int exponent = 0;
    const float fraction = std::frexp(value, &exponent);
    return std::ldexp(std::nearbyint(std::ldexp(fraction, 11)), exponent - 11);
  }
};

class AttentionRungs : public ::testing::TestWithParam<Rung<AttentionCall>> {};

TEST_P(AttentionRungs, AgreesWithTheOracle) {
  for (const auto& [lengths, heads, dim, probability] : kAttentionCases) {
    SCOPED_TRACE(::testing::Message() << lengths.size() << " sequences, " << heads << " heads of " << dim);
    const Dropout dropout{probability, 0x123456789abcdef0u, 0x201, 77};
    const testing::PackedSequences packed(lengths, 100, 1);
    const OwnBatch batch(packed);
    const std::int64_t tokens = packed.batch.tokens, cols = heads * dim;
    // Query, key and value are blocks of columns of one matrix, as the model has them.
    const auto q = stored(draw(tokens * cols, 1)), k = stored(draw(tokens * cols, 2)),
               v = stored(draw(tokens * cols, 3));
    std::vector<double> beside;
    for (std::int64_t row = 0; row < tokens; ++row)
      for (const auto* part : {&q, &k, &v})
        beside.insert(beside.end(), part->begin() + row * cols, part->begin() + (row + 1) * cols);
    const Matrix qkv(kActivations, tokens, 3 * cols, beside), out(kActivations, tokens, cols, {}, {2, 0});
    run(GetParam(), AttentionCall{out.view, qkv.view.columns(0, cols), qkv.view.columns(cols, cols),
                                  qkv.view.columns(2 * cols, cols), batch.batch, heads, kPositions, dropout});
    EXPECT_TRUE(out.intact());
    const reference::Attention<double> oracle(lengths, heads, dim, kPositions, Queries::all, dropout);
    const reference::Attention<float, RoundProbabilities> twin(lengths, heads, dim, kPositions, Queries::all, dropout);
    const auto expected = oracle.forward(q, k, v);
    // The bounds of tests/kernels/attention_test.cpp and tests/cuda/attention_test.cpp, for outputs of 4 at most.
    const double floor = kActivations == DType::f32 ? 4e-6 : 4 * 0x1p-14;
    EXPECT_TRUE(agrees(out.values(), stored(twin.forward(floats(q), floats(k), floats(v))), expected, floor));
  }
}

INSTANTIATE_TEST_SUITE_P(Ladder, AttentionRungs, ::testing::ValuesIn(ladders().attention), kName);

// ---- AdamW ----------------------------------------------------------------------------------------------------------

constexpr std::int64_t kSteps = 20, kRows = 40, kCols = 12, kTouched = 3;
constexpr std::int32_t kSkipped = 7;  // the step whose gradient overflowed

// One tensor with its optimizer's state, and its oracle.
struct State {
  State(std::int64_t rows, std::int64_t cols, unsigned seed, Layout layout)
      : State(rows, cols, draw(rows * cols, seed, 0.05f), layout) {}
  State(std::int64_t rows, std::int64_t cols, const std::vector<double>& w, Layout layout)
      : zeros(w.size()),
        weights(kFloat, rows, cols, w, layout),
        m(kFloat, rows, cols, zeros, layout),
        v(kFloat, rows, cols, zeros, layout) {
    oracle.weights = w, oracle.first_moment = zeros, oracle.second_moment = zeros;
#ifdef EMBER_VARIANTS_CUDA
    working = std::make_unique<Matrix>(testing::kWorking, rows, cols, zeros, layout);
#endif
  }
  AdamWParameter parameter(Tensor gradient, bool decayed) const {
    return {weights.view, m.view, v.view, working == nullptr ? Tensor{} : working->view, gradient, decayed};
  }
  void expect_oracle() const {
    for (const Matrix* matrix : {&weights, &m, &v}) EXPECT_TRUE(matrix->intact());
    // The bounds of tests/kernels/adamw_test.cpp: 1 - 0.9f and 1 - 0.999f are not 0.1 and 0.001.
    EXPECT_TRUE(close(weights, oracle.weights, 2e-7, 1e-6));
    EXPECT_TRUE(close(m, oracle.first_moment, 5e-7, 1e-6));
    EXPECT_TRUE(close(v, oracle.second_moment, 0, 2e-5));
    if (working == nullptr) return;
    EXPECT_TRUE(working->intact());
    EXPECT_EQ(working->values(), stored(weights.values()));
  }
  static ::testing::AssertionResult close(const Matrix& actual, const std::vector<double>& expected, double atol,
                                          double rtol) {
    const std::vector<float> values = actual.values();
    return testing::all_close(std::span<const float>(values), std::span<const double>(expected), atol, rtol);
  }

  std::vector<double> zeros;
  Matrix weights, m, v;
  std::unique_ptr<Matrix> working;
  reference::AdamW<double> oracle;
};

// What a rung leaves of a few tensors, among them one of an odd size at an odd address, and of a table.
struct Training {
  Training() {
    for (const std::int64_t size : {1, 33, 5000})
      dense.emplace_back(1, size, static_cast<unsigned>(size), Layout{0, size == 33 ? 1 : 0});
  }

  void step(const Rung<AdamWCall>& rung, std::int32_t t) {
    const bool skipped = t == kSkipped;
    const float norm = 0.1f * static_cast<float>(t + 1), loss_scale = 8;
    std::deque<Matrix> gradients;
    std::vector<AdamWParameter> parameters;
    for (std::size_t i = 0; i < dense.size(); ++i) {
      State& tensor = dense[i];
      const std::int64_t size = tensor.weights.view.cols;
      const auto g = draw(size, static_cast<unsigned>(100 * t) + static_cast<unsigned>(i), loss_scale);
      gradients.emplace_back(kFloat, 1, size, g, Layout{0, size == 33 ? 1 : 0});
      parameters.push_back(tensor.parameter(gradients.back().view, i % 2 == 0));
      if (!skipped) update(tensor, g, norm, i % 2 == 0 ? 1 : 0);
    }
    std::vector<std::int32_t> rows(kTouched);
    for (std::int64_t u = 0; u < kTouched; ++u)
      rows[static_cast<std::size_t>(u)] = static_cast<std::int32_t>((t * 5 + u * 13) % kRows);
    const auto g = draw(kTouched * kCols, static_cast<unsigned>(t), loss_scale);
    gradients.emplace_back(kFloat, kTouched, kCols, g);
    if (!skipped) update(table, scattered(rows, g), norm, 1);
    StepState state{.loss_scale = loss_scale, .gradient_norm = norm, .finite = skipped ? 0 : 1, .updates = updates};
    const Array<StepState> state_(std::vector<StepState>{state});
    const Array<std::int32_t> ids(rows);
    const AdamWCall call{parameters,
                         table.parameter(gradients.back().view, true),
                         ids.data(),
                         row_updates.data(),
                         schedule.data(),
                         state_.data(),
                         1};
    run(rung, call);
    if (!skipped) ++updates;
  }
  void settle(const Rung<AdamWCall>& rung) {
    const Array<StepState> state(std::vector<StepState>{{.updates = updates}});
    if (rung.settle)
      rung.settle({{}, table.parameter({}, true), nullptr, row_updates.data(), schedule.data(), state.data(), 1});
    ladders().synchronize();
  }
  void update(State& tensor, std::vector<double> gradient, float norm, double decay) const {
    for (double& value : gradient) value /= 8;
    const auto [rate, weight_decay] = variants::rates(updates + 1, kSteps);
    tensor.oracle.update(gradient, updates + 1, rate, decay * weight_decay, norm, 1);
  }
  static std::vector<double> scattered(const std::vector<std::int32_t>& rows, const std::vector<double>& gradient) {
    std::vector<double> all(static_cast<std::size_t>(kRows * kCols));
    for (std::size_t i = 0; i < gradient.size(); ++i)
      all[static_cast<std::size_t>(rows[i / kCols]) * kCols + i % kCols] = gradient[i];
    return all;
  }
  std::vector<std::uint32_t> bits() const {
    std::vector<std::uint32_t> all;
    const auto append = [&](const State& state) {
      for (const Matrix* matrix : {&state.weights, &state.m, &state.v})
        for (const float value : matrix->values()) all.push_back(std::bit_cast<std::uint32_t>(value));
    };
    for (const State& tensor : dense) append(tensor);
    append(table);
    return all;
  }

  std::deque<State> dense;
  State table{kRows, kCols, 9, {}};
  std::int32_t updates = 0;
  Array<std::int32_t> row_updates{std::vector<std::int32_t>(kRows)};
  Array<AdamWUpdate> schedule{variants::falling_schedule(kSteps)};
};

std::vector<std::uint32_t> train(const Rung<AdamWCall>& rung) {
  Training training;
  for (std::int32_t t = 0; t < kSteps; ++t) training.step(rung, t);
  training.settle(rung);
  for (const State& tensor : training.dense) tensor.expect_oracle();
  training.table.expect_oracle();
  return training.bits();
}

class AdamWRungs : public ::testing::TestWithParam<Rung<AdamWCall>> {};

// All rungs do the same sums and products in the same order, so dense and lazy, fused and not, give the same bits.
TEST_P(AdamWRungs, AgreesWithTheOracleAndHasTheBitsOfTheTop) {
  EXPECT_EQ(train(GetParam()), train(ladders().adamw.back()));
}

INSTANTIATE_TEST_SUITE_P(Ladder, AdamWRungs, ::testing::ValuesIn(ladders().adamw), kName);

}  // namespace
}  // namespace ember
