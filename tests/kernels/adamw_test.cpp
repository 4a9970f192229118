// AdamW against the double oracle and PyTorch; the lazy update of a table's rows against the dense one, bit for bit.
#include "tests/reference/adamw.h"

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cfloat>
#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/kernels.h"
#include "tests/adamw_steps.h"
#include "tests/kernels/strided.h"
#include "tests/support.h"

namespace ember {
namespace {

using testing::coefficients;
using testing::touched_rows;

// One dense update of one tensor, whatever number of updates `update` stands for.
void adamw(Kernels& kernels, const AdamWParameter& parameter, const AdamWUpdate& update, float norm, float max_norm) {
  const StepState state{.gradient_norm = norm};
  kernels.adamw({&parameter, 1}, &update, &state, max_norm);
}

// A tensor with its optimizer's state; the working copy only where asked for.
struct State {
  State(std::int64_t rows, std::int64_t cols, bool bf16, unsigned seed = 9)
      : rows(rows), cols(cols), m(static_cast<std::size_t>(rows * cols)), v(m.size()), working(bf16 ? m.size() : 0) {
    const std::vector<double> drawn = testing::draw(rows * cols, seed, 0.05f);
    weights.assign(drawn.begin(), drawn.end());
  }
  AdamWParameter parameter(Tensor gradient = {}) {
    return {matrix(weights.data(), rows, cols), matrix(m.data(), rows, cols), matrix(v.data(), rows, cols),
            working.empty() ? Tensor{} : matrix(working.data(), rows, cols, DType::bf16), gradient};
  }
  // Equal bits, also of zeros and NaNs.
  bool same_bits(const State& other) const {
    const auto same = [](const std::vector<float>& a, const std::vector<float>& b) {
      return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](float x, float y) {
        return std::bit_cast<std::uint32_t>(x) == std::bit_cast<std::uint32_t>(y);
      });
    };
    return same(weights, other.weights) && same(m, other.m) && same(v, other.v) && working == other.working;
  }
  std::int64_t rows, cols;
  std::vector<float> weights, m, v;
  std::vector<std::uint16_t> working;
};

class AdamWSize : public ::testing::TestWithParam<std::int64_t> {};

TEST_P(AdamWSize, AgreesWithTheOracle) {
  const std::int64_t size = GetParam();
  for (const float max_norm : {0.0f, 1.0f}) {
    State state(1, size, false), alone(1, size, false);
    reference::AdamW<double> oracle;
    oracle.weights.assign(state.weights.begin(), state.weights.end());
    oracle.first_moment.resize(oracle.weights.size());
    oracle.second_moment.resize(oracle.weights.size());
    const auto two = make_cpu_kernels(Precision::fp32, 2), one = make_cpu_kernels(Precision::fp32, 1);
    for (std::int64_t t = 1; t <= 20; ++t) {
      const std::vector<double> gradient = testing::draw(size, static_cast<unsigned>(t));
      std::vector<float> g(gradient.begin(), gradient.end());
      const float norm = 0.1f * static_cast<float>(t);  // 0.1 to 2: with and without clipping
      const double learning_rate = 1e-3 * static_cast<double>(21 - t);
      const AdamWUpdate update = coefficients(t, learning_rate, 0.01);
      adamw(*two, state.parameter(vector(g.data(), size)), update, norm, max_norm);
      adamw(*one, alone.parameter(vector(g.data(), size)), update, norm, max_norm);
      oracle.update(gradient, t, learning_rate, 0.01, norm, max_norm);
    }
    EXPECT_TRUE((testing::all_close<float, double>(state.weights, oracle.weights, 2e-7, 1e-6)));
    // 1 - 0.9f and 1 - 0.999f, which are exact, differ from 0.1 and 0.001 by 2.4e-7 and 1.3e-5 of them.
    EXPECT_TRUE((testing::all_close<float, double>(state.m, oracle.first_moment, 5e-7, 1e-6)));
    EXPECT_TRUE((testing::all_close<float, double>(state.v, oracle.second_moment, 0, 2e-5)));
    EXPECT_TRUE(state.same_bits(alone));
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, AdamWSize, ::testing::Values(1, 7, 33, 8191, 8192, 8193, 100003));

// torch.optim.AdamW (lr 0.01, 0.0075, 0.005; weight_decay 0.01 for the first five, 0 for the last two) after
// torch.nn.utils.clip_grad_norm_(1.0), PyTorch 2.15, float32.
TEST(AdamW, AgreesWithPyTorch) {
  constexpr std::size_t kSteps = 3, kDecayed = 5, kSize = 7;
  const float gradients[kSteps][kSize] = {{0.3f, -0.2f, 0.05f, 1e-4f, -2.0f, 0.7f, 0.1f},
                                          {-0.1f, 0.4f, 0.02f, 0.0f, 0.5f, 0.0f, -0.3f},
                                          {0.01f, 0.02f, -0.03f, -1e-5f, 0.25f, 0.2f, 0.1f}};
  const double rates[kSteps] = {0.01, 0.0075, 0.005};
  const float norms[kSteps] = {2.15232444f, 0.714422822f, 0.337490737f};
  const float expected[kSteps][kSize] = {
      {0.489950001f, -1.23987496f, 1.98979998f, -0.00899794698f, 0.00999999885f, 0.239999995f, -0.75999999f},
      {0.489085138f, -1.24408174f, 1.98220074f, -0.0140211787f, 0.0117786648f, 0.234974563f, -0.755253375f},
      {0.48844859f, -1.2463882f, 1.98159373f, -0.0158787742f, 0.0119333547f, 0.231094778f, -0.753929973f}};
  State state(1, kSize, false);
  state.weights = {0.5f, -1.25f, 2.0f, 0.001f, 0.0f, 0.25f, -0.75f};
  const AdamWParameter all = state.parameter();
  const auto part = [&all](std::int64_t begin, Tensor gradient, bool decayed) {
    return AdamWParameter{all.weights.columns(begin, gradient.cols),
                          all.first_moment.columns(begin, gradient.cols),
                          all.second_moment.columns(begin, gradient.cols),
                          {},
                          gradient,
                          decayed};
  };
  std::vector<AdamWUpdate> schedule;
  for (std::size_t step = 0; step < kSteps; ++step)
    schedule.push_back(coefficients(static_cast<std::int64_t>(step) + 1, rates[step], 0.01));
  StepState stepped;
  const auto kernels = make_cpu_kernels(Precision::fp32, 1);
  for (std::size_t step = 0; step < kSteps; ++step) {
    std::vector<float> g(gradients[step], gradients[step] + kSize);
    const Tensor gradient = vector(g.data(), kSize);
    const std::array<Tensor, 2> parts{gradient.columns(0, kDecayed), gradient.columns(kDecayed, kSize - kDecayed)};
    kernels->gradient_norm(&stepped, parts);
    EXPECT_NEAR(stepped.gradient_norm, norms[step], 1e-6);
    const std::array<AdamWParameter, 2> both{part(0, parts[0], true), part(kDecayed, parts[1], false)};
    kernels->adamw(both, schedule.data(), &stepped, 1);
    kernels->finish_step(&stepped, {}, {});
    EXPECT_TRUE((testing::all_close<float, float>(state.weights, std::span(expected[step]), 3e-8, 1e-6)));
  }
}

TEST(AdamW, WorkingCopyIsRoundedToTheNearestEven) {
  const std::vector<std::pair<std::uint32_t, std::uint16_t>> cases{
      {0x3F800000, 0x3F80}, {0x3F808000, 0x3F80},  // a tie goes to the even neighbour below
      {0x3F818000, 0x3F82},                        // and above
      {0x3F808001, 0x3F81}, {0x3F807FFF, 0x3F80}, {0xBF818000, 0xBF82}, {0x00000001, 0x0000},
      {0x7F7FFFFF, 0x7F80}, {0x7F800000, 0x7F80}, {0xFF800000, 0xFF80}, {0x7FC00000, 0x7FC0}};
  const auto size = static_cast<std::int64_t>(cases.size());
  State state(1, size, true);
  for (std::size_t i = 0; i < cases.size(); ++i) state.weights[i] = std::bit_cast<float>(cases[i].first);
  std::vector<float> zeros(cases.size());
  const auto kernels = make_cpu_kernels(Precision::fp32, 1);
  adamw(*kernels, state.parameter(vector(zeros.data(), size)), AdamWUpdate{}, 0, 0);
  for (std::size_t i = 0; i < cases.size(); ++i) EXPECT_EQ(state.working[i], cases[i].second) << i;
}

TEST(AdamW, MomentumEndsBelowTheSmallestNormal) {
  State state(1, 3, false);
  state.m = {FLT_MIN, -FLT_MIN, 2 * FLT_MIN};
  std::vector<float> zeros(3);
  const auto kernels = make_cpu_kernels(Precision::fp32, 1);
  adamw(*kernels, state.parameter(vector(zeros.data(), 3)), coefficients(1, 1e-3, 0), 0, 0);
  EXPECT_EQ(state.m[0], 0);
  EXPECT_EQ(state.m[1], 0);
  EXPECT_FALSE(std::signbit(state.m[1]));
  EXPECT_GT(state.m[2], FLT_MIN);
}

TEST(AdamW, ASkippedStepMovesNothing) {
  const auto kernels = make_cpu_kernels(Precision::fp32, 2);
  State state(2, 3, true), table(2, 3, true);
  const State before = state;
  std::vector<float> g(6, std::numeric_limits<float>::infinity());
  const AdamWUpdate update = coefficients(1, 1e-3, 0.01);
  const StepState skipped{.gradient_norm = g[0], .finite = 0};
  const AdamWParameter parameter = state.parameter(matrix(g.data(), 2, 3));
  kernels->adamw({&parameter, 1}, &update, &skipped, 1);
  std::vector<std::int32_t> ids{0, 1}, updates{0, 0};
  kernels->adamw_rows(table.parameter(matrix(g.data(), 2, 3)), ids.data(), updates.data(), &update, &skipped, 1);
  EXPECT_TRUE(state.same_bits(before));
  EXPECT_TRUE(table.same_bits(before));
  EXPECT_EQ(updates, (std::vector<std::int32_t>{0, 0}));
}

TEST(AdamW, TakesTheLossScaleOut) {
  const auto kernels = make_cpu_kernels(Precision::fp32, 1);
  State scaled(1, 33, false), plain(1, 33, false);
  std::vector<float> g(33), g_scaled(33);
  for (std::size_t i = 0; i < g.size(); ++i) g[i] = 0.01f * static_cast<float>(i) - 0.1f, g_scaled[i] = 1024 * g[i];
  const AdamWUpdate update = coefficients(1, 1e-3, 0.01);
  adamw(*kernels, plain.parameter(vector(g.data(), 33)), update, 0.5f, 1);
  const StepState state{.loss_scale = 1024, .gradient_norm = 0.5f};
  const AdamWParameter parameter = scaled.parameter(vector(g_scaled.data(), 33));
  kernels->adamw({&parameter, 1}, &update, &state, 1);
  EXPECT_TRUE(scaled.same_bits(plain));
}

// Of a norm as small as what is added to it, half is left.
TEST(AdamW, ClippingAddsAMillionthToTheNorm) {
  State state(1, 1, false);
  float gradient = 1;
  const auto kernels = make_cpu_kernels(Precision::fp32, 1);
  adamw(*kernels, state.parameter(vector(&gradient, 1)), coefficients(1, 1e-3, 0), 1e-6f, 1e-6f);
  EXPECT_NEAR(state.m[0], (1 - 0.9f) / 2, 1e-8);
}

TEST(AdamW, RowsOfATableThatDoesNotDecayHaveTheBitsOfDense) {
  const auto kernels = make_cpu_kernels(Precision::fp32, 1);
  State dense(2, 33, true), table(2, 33, true);
  std::vector<float> g(66, 0.25f);
  const Tensor gradient = matrix(g.data(), 2, 33);
  AdamWParameter whole = dense.parameter(gradient), rows = table.parameter(gradient);
  whole.decayed = rows.decayed = false;
  const AdamWUpdate update = coefficients(1, 1e-3, 0.01);
  const StepState state{.gradient_norm = 0.5f};
  std::vector<std::int32_t> ids{0, 1}, updates{0, 0};
  kernels->adamw({&whole, 1}, &update, &state, 1);
  kernels->adamw_rows(rows, ids.data(), updates.data(), &update, &state, 1);
  EXPECT_TRUE(table.same_bits(dense));
}

TEST(AdamW, WhatAStepHasLeftIsUpdatedOnce) {
  const auto kernels = make_cpu_kernels(Precision::fp32, 1);
  EXPECT_FALSE(kernels->defers_updates());
  State at_once(1, 33, false), left(1, 33, false);
  std::vector<float> g(33, 0.25f);
  const AdamWUpdate update = coefficients(1, 1e-3, 0.01);
  adamw(*kernels, at_once.parameter(vector(g.data(), 33)), update, 2, 1);
  StepState before{.gradient_norm = 2};
  const AdamWParameter parameter = left.parameter(vector(g.data(), 33));
  const std::span<const AdamWParameter> group(&parameter, 1);
  for (int i = 0; i < 2; ++i) {
    kernels->start_updates({&group, 1}, &update, &before, 1);
    EXPECT_FALSE(kernels->await_updates());
    EXPECT_EQ(before.finite, 0);
    EXPECT_TRUE(left.same_bits(at_once));
  }
}

// ---- Lazy rows ------------------------------------------------------------------------------------------------------

constexpr std::int64_t kSteps = 1000;
constexpr std::int32_t kRows = 24;

// A table trained densely and lazily side by side.
struct Pair {
  Pair(std::int64_t cols, bool bf16, int threads)
      : dense(kRows, cols, bf16),
        lazy(kRows, cols, bf16),
        updates(kRows),
        kernels(make_cpu_kernels(Precision::fp32, threads)) {
    for (std::int64_t t = 0; t < kSteps; ++t) {
      const double rate = 5e-3 * (t < 100 ? static_cast<double>(t + 1) / 100 : static_cast<double>(kSteps - t) / 900);
      schedule.push_back(coefficients(t + 1, rate, 0.01));
    }
  }

  void step(std::int64_t t, std::mt19937& generator) {
    std::vector<std::int32_t> rows = touched_rows(t, kRows, generator);
    const auto touched = static_cast<std::int64_t>(rows.size()), cols = dense.cols;
    rows.resize(static_cast<std::size_t>(touched + t % 3), -1);  // passed over, whatever their gradient is
    const auto count = static_cast<std::int64_t>(rows.size());
    std::vector<float> some(static_cast<std::size_t>(count * cols), 7), all(static_cast<std::size_t>(kRows * cols));
    for (std::int64_t i = 0; i < touched * cols; ++i) {
      const float g = std::normal_distribution<float>()(generator);
      some[static_cast<std::size_t>(i)] = g;
      all[static_cast<std::size_t>(rows[static_cast<std::size_t>(i / cols)] * cols + i % cols)] = g;
    }
    state.gradient_norm = 0.2f + 0.01f * static_cast<float>(t % 150);
    state.finite = t % 50 == 49 ? 0 : 1;  // now and then a step is skipped
    const AdamWParameter whole = dense.parameter(matrix(all.data(), kRows, cols));
    kernels->adamw({&whole, 1}, schedule.data(), &state, 1);
    if (count > 0)  // ids of no memory would mean all rows
      kernels->adamw_replay(lazy.parameter(), rows.data(), count, updates.data(), schedule.data(), &state);
    kernels->adamw_rows(lazy.parameter(matrix(some.data(), count, cols)), rows.data(), updates.data(), schedule.data(),
                        &state, 1);
    kernels->finish_step(&state, {}, {});
  }
  void catch_up() { kernels->adamw_replay(lazy.parameter(), nullptr, 0, updates.data(), schedule.data(), &state); }

  State dense, lazy;
  std::vector<std::int32_t> updates;
  std::vector<AdamWUpdate> schedule;
  StepState state;
  std::unique_ptr<Kernels> kernels;
};

class LazyAdamW : public ::testing::TestWithParam<std::tuple<std::int64_t, bool, int>> {};

TEST_P(LazyAdamW, HasTheBitsOfDense) {
  const auto [cols, bf16, threads] = GetParam();
  Pair pair(cols, bf16, threads);
  std::mt19937 generator(3);
  for (std::int64_t t = 0; t < kSteps; ++t) {
    pair.step(t, generator);
    if (t == 400) {  // an evaluation in between
      pair.catch_up();
      ASSERT_TRUE(pair.lazy.same_bits(pair.dense));
    }
    if (t == 970) {  // what the test is about has come about: momentum that has ended, and rows that lag behind
      EXPECT_EQ(pair.dense.m[static_cast<std::size_t>(2 * cols)], 0);
      EXPECT_NE(pair.dense.v[static_cast<std::size_t>(2 * cols)], 0);
      EXPECT_FALSE(pair.lazy.same_bits(pair.dense));
      EXPECT_EQ(pair.updates[0], 401 - 8) << "since the evaluation, less the steps skipped before";
    }
  }
  pair.catch_up();
  EXPECT_TRUE(pair.lazy.same_bits(pair.dense));
  EXPECT_EQ(pair.updates, std::vector<std::int32_t>(kRows, kSteps - kSteps / 50));
}

INSTANTIATE_TEST_SUITE_P(Columns, LazyAdamW,
                         ::testing::Values(std::tuple(1, false, 1), std::tuple(26, false, 2), std::tuple(26, true, 1),
                                           std::tuple(312, false, 1), std::tuple(312, true, 1)));

TEST(LazyAdamWEdge, WrongCallsAreRefused) {
  const auto kernels = make_cpu_kernels(Precision::fp32, 1);
  State table(4, 3, false);
  std::vector<float> g(3);
  std::vector<std::int32_t> updates{0, 1, 2, 0};
  const std::vector<AdamWUpdate> schedule(3, coefficients(3, 1e-3, 0));
  const auto rows = [&](std::int32_t id, std::int32_t done) {
    const StepState state{.updates = done};
    kernels->adamw_rows(table.parameter(matrix(g.data(), 1, 3)), &id, updates.data(), schedule.data(), &state, 0);
  };
  EXPECT_THROW(rows(4, 0), std::logic_error);
  EXPECT_THROW(rows(-2, 0), std::logic_error);
  EXPECT_THROW(rows(1, 2), std::logic_error);
  EXPECT_NO_THROW(rows(2, 2));
  EXPECT_EQ(updates[2], 3);
  const StepState two{.updates = 2};
  const std::int32_t ahead = 2;
  EXPECT_THROW(kernels->adamw_replay(table.parameter(), &ahead, 1, updates.data(), schedule.data(), &two),
               std::logic_error);
  EXPECT_THROW(adamw(*kernels, table.parameter(matrix(g.data(), 1, 3)), schedule[0], 0, 0), std::logic_error);
}

}  // namespace
}  // namespace ember
