// AdamW on the device: the bits of CpuKernels, the double oracle, and those of its parts for what does several at once
// or beside other work. The lazy update of a table's rows is in adamw_replay_test.cpp.
#include "tests/reference/adamw.h"

#include <gtest/gtest.h>

#include <cfloat>
#include <cmath>
#include <deque>
#include <limits>
#include <stdexcept>

#include "tests/cuda/adamw_support.h"

namespace ember {
namespace {

using namespace testing;

// One dense update of one tensor.
void adamw(const State& state, const std::vector<double>& gradient, const AdamWUpdate& update, const StepState& step,
           float max_norm) {
  const Tensor& like = state.weights.view;
  const DeviceMatrix g(kFloat, like.rows, like.cols, gradient);
  const AdamWParameter parameter = state.parameter(g.view);
  const DeviceArray<AdamWUpdate> schedule(std::vector<AdamWUpdate>(static_cast<std::size_t>(step.updates) + 1, update));
  testing::device().adamw({&parameter, 1}, schedule.data(), on_device(step).data(), max_norm);
}

// Whether CpuKernels was compiled for a processor with fused multiply-adds, whose bits a GPU's are.
bool cpu_fuses() {
  constexpr std::int64_t kCount = 64;
  const std::vector<double> m = draw(kCount, 1), g = draw(kCount, 2), zeros(kCount), ones(kCount, 1);
  const StridedMatrix w_(1, kCount, 0, zeros), m_(1, kCount, 0, m), v_(1, kCount, 0, ones), g_(1, kCount, 0, g);
  const AdamWUpdate update = coefficients(1, 1e-3, 0);
  const AdamWParameter parameter{w_.view, m_.view, v_.view, {}, g_.view};
  const StepState state;
  make_cpu_kernels(Precision::fp32, 1)->adamw({&parameter, 1}, &update, &state, 0);
  const std::vector<float> after = m_.values();
  for (std::size_t i = 0; i < m.size(); ++i)
    if (after[i] != std::fma(update.beta1, static_cast<float>(m[i]), (1 - update.beta1) * static_cast<float>(g[i])))
      return false;
  return true;
}

// More parameters than fit into a launch, around the chunks' ends, with and without decay, aligned and not, as are
// their gradients.
TEST(DeviceAdamW, HasTheBitsOfTheCpu) {
  std::vector<std::int64_t> sizes{1, 7, 33, 2047, 2048, 2049, 9001, 312 * 28};
  sizes.resize(70, 5);
  const std::vector<AdamWUpdate> schedule = descending_schedule(5, 1e-2);
  const DeviceArray<AdamWUpdate> device_schedule(schedule);
  std::deque<State> states;
  std::deque<DeviceMatrix> gradients;
  std::deque<StridedMatrix> host;  // weights, m, v, gradient of each
  std::vector<AdamWParameter> parameters, host_parameters;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    const std::int64_t size = sizes[i];
    const Layout layout{0, i % 3 == 2 ? 1 : 0}, of_gradient{0, i % 4 == 3 ? 1 : 0};
    const std::vector<double> weights = draw(size, static_cast<unsigned>(i), 0.05f), gradient = draw(size, 100, 512);
    states.emplace_back(1, size, weights, State::zeros(size), State::zeros(size), layout);
    gradients.emplace_back(kFloat, 1, size, gradient, of_gradient);
    parameters.push_back(states.back().parameter(gradients.back().view, i % 2 == 0));
    for (const auto& values : {weights, State::zeros(size), State::zeros(size), gradient})
      host.emplace_back(1, size, 0, values);
    host_parameters.push_back(
        {host[4 * i].view, host[4 * i + 1].view, host[4 * i + 2].view, {}, host[4 * i + 3].view, i % 2 == 0});
  }
  const auto cpu = make_cpu_kernels(Precision::fp32, 1);
  for (std::int32_t t = 0; t < 5; ++t) {
    const StepState step{.loss_scale = 1024, .gradient_norm = 0.5f + 0.5f * static_cast<float>(t), .updates = t};
    testing::device().adamw(parameters, device_schedule.data(), on_device(step).data(), 1);
    cpu->adamw(host_parameters, schedule.data(), &step, 1);
  }
  const bool same_arithmetic = cpu_fuses();
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    const auto values = states[i].values();
    for (std::size_t k = 0; k < 3; ++k) {
      const std::vector<float> expected = host[4 * i + k].values();
      if (same_arithmetic)
        EXPECT_EQ(values[k], expected) << "parameter " << i << ", " << k;
      else
        EXPECT_TRUE(testing::all_close(values[k], doubles(expected), 1e-7, 1e-6)) << "parameter " << i << ", " << k;
    }
    EXPECT_TRUE(states[i].working.intact());
    EXPECT_EQ(states[i].working.values(), testing::to_halves(values[0]));
  }
}

TEST(DeviceAdamW, AgreesWithTheOracle) {
  const std::int64_t size = 4099;
  for (const float max_norm : {0.0f, 1.0f}) {
    const State state(1, size);
    reference::AdamW<double> oracle;
    oracle.weights = doubles(state.weights.values());
    oracle.first_moment.resize(oracle.weights.size());
    oracle.second_moment.resize(oracle.weights.size());
    for (std::int64_t t = 1; t <= 20; ++t) {
      const std::vector<double> gradient = draw(size, static_cast<unsigned>(t));
      const float norm = 0.1f * static_cast<float>(t);  // 0.1 to 2: with and without clipping
      const double rate = 1e-3 * static_cast<double>(21 - t);
      adamw(state, gradient, coefficients(t, rate, 0.01), {.gradient_norm = norm}, max_norm);
      oracle.update(gradient, t, rate, 0.01, norm, max_norm);
    }
    const auto values = state.values();
    EXPECT_TRUE(testing::all_close(values[0], oracle.weights, 2e-7, 1e-6));
    // 1 - 0.9f and 1 - 0.999f, which are exact, differ from 0.1 and 0.001 by 2.4e-7 and 1.3e-5 of them.
    EXPECT_TRUE(testing::all_close(values[1], oracle.first_moment, 5e-7, 1e-6));
    EXPECT_TRUE(testing::all_close(values[2], oracle.second_moment, 0, 2e-5));
  }
}

TEST(DeviceAdamW, MomentumEndsBelowTheSmallestNormal) {
  const State state(1, 3, {0, 0, 0}, {FLT_MIN, -FLT_MIN, 2 * FLT_MIN}, {0, 0, 0});
  adamw(state, {0, 0, 0}, coefficients(1, 1e-3, 0), {}, 0);
  const std::vector<float> m = state.m.values();
  EXPECT_EQ(m[0], 0);
  EXPECT_EQ(m[1], 0);
  EXPECT_FALSE(std::signbit(m[1]));
  EXPECT_GT(m[2], FLT_MIN);
}

TEST(DeviceAdamW, TakesTheLossScaleOut) {
  const State scaled(1, 33), plain(1, 33);
  const std::vector<double> g = draw(33, 1);
  std::vector<double> larger = g;
  for (double& value : larger) value *= 1024;
  adamw(plain, g, coefficients(1, 1e-3, 0.01), {.gradient_norm = 0.5f}, 1);
  adamw(scaled, larger, coefficients(1, 1e-3, 0.01), {.loss_scale = 1024, .gradient_norm = 0.5f}, 1);
  EXPECT_EQ(scaled.bits(), plain.bits());
}

TEST(DeviceAdamW, ASkippedStepMovesNothing) {
  const State state(2, 12), table(2, 12);
  const std::vector<std::uint32_t> before = state.bits();
  const StepState skipped{.gradient_norm = INFINITY, .finite = 0};
  const std::vector<double> gradient(24, std::numeric_limits<double>::infinity());
  adamw(state, gradient, coefficients(1, 1e-3, 0.01), skipped, 1);
  const DeviceMatrix g(kFloat, 2, 12, gradient);
  const DeviceArray<std::int32_t> ids({0, 1}), updates({0, 0});
  const DeviceArray<AdamWUpdate> schedule({coefficients(1, 1e-3, 0.01)});
  testing::device().adamw_rows(table.parameter(g.view), ids.data(), updates.data(), schedule.data(),
                               on_device(skipped).data(), 1);
  EXPECT_EQ(state.bits(), before);
  EXPECT_EQ(table.bits(), before);
  EXPECT_EQ(updates.values(), (std::vector<std::int32_t>{0, 0}));
}

// Whose gradient alone is not aligned.
TEST(DeviceAdamW, RowsOfATableThatDoesNotDecayHaveTheBitsOfDense) {
  const State dense(2, 12), table(2, 12);
  const DeviceMatrix g(kFloat, 2, 12, draw(24, 1), {0, 1});
  const DeviceArray<std::int32_t> ids({0, 1}), updates({0, 0});
  const DeviceArray<AdamWUpdate> schedule({coefficients(1, 1e-3, 0.01)});
  const DeviceArray<StepState> step = on_device({});
  const AdamWParameter whole = dense.parameter(g.view, false), rows = table.parameter(g.view, false);
  testing::device().adamw({&whole, 1}, schedule.data(), step.data(), 1);
  testing::device().adamw_rows(rows, ids.data(), updates.data(), schedule.data(), step.data(), 1);
  EXPECT_EQ(table.bits(), dense.bits());
}

// Neighbours in memory are one parameter to the kernel, unless their decay differs or a gradient lies elsewhere.
TEST(DeviceAdamW, NeighboursHaveTheBitsThatEachHasAlone) {
  constexpr std::int64_t kCount = 4, kCols = 6;
  const DeviceMatrix gradient(kFloat, 1, kCount * kCols, draw(kCount * kCols, 1)),
      elsewhere(kFloat, 1, kCols, draw(kCols, 2));
  const DeviceArray<AdamWUpdate> schedule({coefficients(1, 1e-3, 0.01)});
  const DeviceArray<StepState> step = on_device({});
  const auto run = [&](bool together) {
    const State state(1, kCount * kCols);
    std::vector<AdamWParameter> parameters;
    for (std::int64_t i = 0; i < kCount; ++i) {
      const auto cut = [&](const DeviceMatrix& whole) { return whole.view.columns(i * kCols, kCols); };
      parameters.push_back({cut(state.weights), cut(state.m), cut(state.v), cut(state.working),
                            i == 3 ? elsewhere.view : cut(gradient), i < 2});
    }
    if (together) testing::device().adamw(parameters, schedule.data(), step.data(), 1);
    for (std::size_t i = 0; !together && i < parameters.size(); ++i)
      testing::device().adamw({&parameters[i], 1}, schedule.data(), step.data(), 1);
    return state.bits();
  };
  EXPECT_EQ(run(true), run(false));
}

// Beside other work, more parameters than a launch holds and more chunks than it has blocks, in groups, one of them
// empty: adamw's bits, once. What follows await_updates sees them.
TEST(DeviceStartUpdates, DoesOnceWhatAdamWDoes) {
  const DeviceArray<AdamWUpdate> schedule(descending_schedule(3, 1e-2));
  std::vector<std::int64_t> sizes(70, 5);
  sizes[0] = 9001, sizes[1] = 40000;
  const auto run = [&](std::int32_t finite, int times) {
    std::deque<State> states;
    std::deque<DeviceMatrix> gradients;
    std::vector<AdamWParameter> parameters;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      states.emplace_back(1, sizes[i]);
      gradients.emplace_back(kFloat, 1, sizes[i], draw(sizes[i], static_cast<unsigned>(i)));
      parameters.push_back(states.back().parameter(gradients.back().view, i % 2 == 0));
    }
    const DeviceArray<StepState> before =
        on_device({.loss_scale = 8, .gradient_norm = 3, .finite = finite, .updates = 1});
    CudaKernels& kernels = testing::device();
    if (times == 0) kernels.adamw(parameters, schedule.data(), before.data(), 1);
    const std::span<const AdamWParameter> all(parameters);
    const std::span<const AdamWParameter> groups[] = {all.first(2), all.first(0), all.subspan(2)};
    for (int i = 0; i < times; ++i) {
      kernels.start_updates(groups, schedule.data(), before.data(), 1);
      for (std::size_t group = 0; group < std::size(groups); ++group) EXPECT_TRUE(kernels.await_updates());
      EXPECT_FALSE(kernels.await_updates());
      EXPECT_EQ(before.values()[0].finite, 0);
    }
    std::vector<std::vector<std::uint32_t>> bits;
    for (const State& state : states) bits.push_back(state.bits());
    return bits;
  };
  const auto updated = run(1, 0), skipped = run(0, 0);
  ASSERT_NE(updated, skipped);
  EXPECT_EQ(run(1, 1), updated);
  EXPECT_EQ(run(1, 2), updated);
  EXPECT_EQ(run(0, 1), skipped);
}

// Of two parameters that are the same, `by_parts` is for start_updates.
struct DeviceUpdatesLeft : ::testing::Test {
  const DeviceArray<AdamWUpdate> schedule{descending_schedule(3, 1e-2)};
  const State by_parts{1, 40}, whole{1, 40};
  const DeviceMatrix gradient{kFloat, 1, 40, draw(40, 1)};
  const AdamWParameter parameters[2] = {by_parts.parameter(gradient.view), whole.parameter(gradient.view)};
  const std::span<const AdamWParameter> group{&parameters[0], 1}, expected{&parameters[1], 1};
  CudaKernels& kernels = testing::device();

  static DeviceArray<StepState> step(std::int32_t updates) {
    return on_device({.loss_scale = 8, .gradient_norm = 3, .updates = updates});
  }
};

TEST_F(DeviceUpdatesLeft, AreFirstAwaitedByAnotherCall) {
  const std::span<const AdamWParameter> groups[] = {group.first(0), group};
  std::deque<DeviceArray<StepState>> steps;
  for (const std::int32_t updates : {1, 2}) {
    steps.push_back(step(updates));
    kernels.adamw(expected, schedule.data(), steps.back().data(), 1);
    kernels.start_updates(groups, schedule.data(), steps.back().data(), 1);
    EXPECT_TRUE(kernels.await_updates());  // which leaves one
  }
  EXPECT_TRUE(kernels.await_updates());
  EXPECT_FALSE(kernels.await_updates());
  EXPECT_EQ(by_parts.bits(), whole.bits());
  EXPECT_EQ(steps.back().values()[0].finite, 0);
}

// It cannot await what has begun outside it.
TEST_F(DeviceUpdatesLeft, AreFirstAwaitedByARecording) {
  const DeviceArray<StepState> before = step(1), state = step(1);
  kernels.adamw(expected, schedule.data(), state.data(), 1);
  kernels.start_updates({&group, 1}, schedule.data(), before.data(), 1);
  const auto recorded = kernels.record([&] {
    EXPECT_FALSE(kernels.await_updates());
    kernels.adamw(group, schedule.data(), state.data(), 1);
  });
  EXPECT_EQ(by_parts.bits(), whole.bits());
  kernels.adamw(expected, schedule.data(), state.data(), 1);
  recorded->run();
  EXPECT_EQ(by_parts.bits(), whole.bits());
}

// The columns of one row, cut into parameters that lie side by side, and a table: at once and by the parts, whose bits
// must be the same, as must the state of the step.
TEST(DeviceAdamWStep, HasTheBitsOfItsParts) {
  constexpr std::int64_t kCols = 12, kTokens = 3;
  const std::vector<AdamWUpdate> schedule = descending_schedule(3, 1e-2);
  const DeviceArray<AdamWUpdate> device_schedule(schedule);
  const DeviceArray<std::int32_t> ids({0, 2, -1});
  const DeviceMatrix row_gradient(kFloat, kTokens, kCols, draw(kTokens * kCols, 3));
  for (const std::int64_t count : {0, 1, 150})
    for (const std::int32_t finite : {1, 0}) {
      const std::int64_t size = 4097 + 5 * count;
      const DeviceMatrix gradient(kFloat, 1, size, draw(size, 4));
      const auto run = [&](bool by_parts) {
        const State dense(1, size), table(5, kCols);
        std::vector<AdamWParameter> parameters;
        for (std::int64_t i = 0; i < count; ++i) {
          const std::int64_t begin = i == 0 ? 0 : 4097 + 5 * (i - 1), cols = i == 0 ? 4097 : 5;
          const auto cut = [&](const Tensor& whole) { return whole.columns(begin, cols); };
          parameters.push_back({cut(dense.weights.view), cut(dense.m.view), cut(dense.v.view), cut(dense.working.view),
                                cut(gradient.view), i % 4 < 2});
        }
        const DeviceArray<std::int32_t> updates({1, 0, 1, 0, 1});
        const DeviceArray<StepState> state = on_device(
            {.loss_scale = 8, .gradient_norm = 3, .finite = finite, .updates = 1, .clean_steps = 1, .steps = 5});
        const DeviceArray<float> loss({0.5f});
        const DeviceArray<StepRecord> records(std::vector<StepRecord>(4));
        const DeviceArray<StepState> before = on_device({});
        CudaKernels& kernels = testing::device();
        const auto step = [&](auto&&... arguments) {
          by_parts ? kernels.Kernels::adamw_step(arguments...) : kernels.adamw_step(arguments...);
        };
        step(parameters, table.parameter(row_gradient.view), ids.data(), updates.data(), device_schedule.data(),
             state.data(), 1.0f, LossScaling{2}, StepLog{loss.data(), records.data(), 4, before.data()});
        std::vector<std::uint32_t> bits = dense.bits();
        for (const std::uint32_t word : table.bits()) bits.push_back(word);
        for (const std::int32_t update : updates.values()) bits.push_back(static_cast<std::uint32_t>(update));
        const StepState after = state.values()[0], kept = before.values()[0];
        EXPECT_EQ(after.updates, 1 + finite);
        EXPECT_EQ(kept.loss_scale, 8);
        EXPECT_EQ(kept.gradient_norm, 3);
        EXPECT_EQ(kept.finite, finite);
        EXPECT_EQ(kept.updates, 1);
        EXPECT_EQ(after.loss_scale, finite == 1 ? 16 : 4);
        const StepRecord record = records.values()[1];
        EXPECT_EQ(record.loss, 0.5f);
        EXPECT_EQ(record.state.steps, 6);
        EXPECT_EQ(record.state.updates, after.updates);
        for (const std::int32_t word : {after.finite, after.clean_steps, after.skipped})
          bits.push_back(static_cast<std::uint32_t>(word));
        return bits;
      };
      const std::vector<std::uint32_t> at_once = run(false);
      EXPECT_EQ(at_once, run(true)) << count << " parameters, finite " << finite;
      EXPECT_EQ(at_once, run(false)) << "a repetition gives other bits";
    }
}

TEST(DeviceAdamWStep, CatchingUpReplaysBothListsOfRows) {
  const std::vector<AdamWUpdate> schedule = descending_schedule(9, 1e-2);
  const DeviceArray<AdamWUpdate> device_schedule(schedule);
  const DeviceArray<std::int32_t> ids({1, 4, -1}), also({2});
  const DeviceArray<StepState> state = on_device({.updates = 9});
  for (const std::int64_t count : {0, 3}) {
    const auto run = [&](bool by_parts) {
      const State table(5, 13, draw(65, 1), draw(65, 2, 0.1f), std::vector<double>(65, 0.01));
      const DeviceArray<std::int32_t> updates({0, 3, 5, 0, 9});
      CudaKernels& kernels = testing::device();
      if (by_parts)
        kernels.Kernels::adamw_catch_up(table.parameter(), ids.data(), count, also.data(), updates.data(),
                                        device_schedule.data(), state.data());
      else
        kernels.adamw_catch_up(table.parameter(), ids.data(), count, also.data(), updates.data(),
                               device_schedule.data(), state.data());
      EXPECT_EQ(updates.values(),
                count == 0 ? (std::vector<std::int32_t>{0, 3, 9, 0, 9}) : (std::vector<std::int32_t>{0, 9, 9, 0, 9}));
      return table.bits();
    };
    EXPECT_EQ(run(false), run(true));
  }
}

TEST(DeviceAdamW, NothingToUpdate) {
  const State none(0, 12), table(3, 12);
  const std::vector<std::uint32_t> before = table.bits();
  const DeviceMatrix g(kFloat, 0, 12);
  const DeviceArray<AdamWUpdate> schedule({coefficients(1, 1e-3, 0.01)});
  const DeviceArray<StepState> state = on_device({});
  const DeviceArray<std::int32_t> updates({0, 0, 0});
  const AdamWParameter parameter = none.parameter(g.view);
  CudaKernels& kernels = testing::device();
  kernels.adamw({}, schedule.data(), state.data(), 1);
  kernels.adamw({&parameter, 1}, schedule.data(), state.data(), 1);
  kernels.adamw_rows(table.parameter(g.view), updates.data(), updates.data(), schedule.data(), state.data(), 1);
  kernels.adamw_replay(table.parameter(), updates.data(), 0, updates.data(), schedule.data(), state.data());
  kernels.adamw_replay(table.parameter(), nullptr, 0, updates.data(), schedule.data(), state.data());
  kernels.adamw_step({}, table.parameter(g.view), updates.data(), updates.data(), schedule.data(), state.data(), 1, {},
                     {});
  EXPECT_EQ(state.values()[0].steps, 1) << "a step that updates nothing is one";
  EXPECT_EQ(table.bits(), before);
  EXPECT_EQ(updates.values(), (std::vector<std::int32_t>{0, 0, 0}));
}

}  // namespace
}  // namespace ember
