// The lazy update of a table's rows on the device, adamw_rows and adamw_replay, against the dense one, bit for bit.
#include <cmath>
#include <cstdint>
#include <random>
#include <stdexcept>
#include <vector>

#include "tests/cuda/adamw_support.h"

namespace ember {
namespace {

using namespace testing;

constexpr std::int64_t kAdamWSteps = 1000;
constexpr std::int32_t kRows = 12;

// A table trained densely and lazily side by side.
struct Pair {
  explicit Pair(std::int64_t cols)
      : cols(cols), dense(kRows, cols), lazy(kRows, cols), schedule(descending_schedule(kAdamWSteps, 5e-3)) {}

  void step(std::int64_t t, std::mt19937& generator) {
    std::vector<std::int32_t> rows = touched_rows(t, kRows, generator);
    const auto touched = std::ssize(rows);
    rows.resize(static_cast<std::size_t>(touched + t % 3), -1);  // passed over, whatever their gradient is
    const auto count = std::ssize(rows);
    const std::vector<double> some = draw(count * cols, static_cast<unsigned>(t));
    std::vector<double> all = State::zeros(kRows * cols);
    for (std::int64_t i = 0; i < touched * cols; ++i)
      all[static_cast<std::size_t>(rows[static_cast<std::size_t>(i / cols)] * cols + i % cols)] =
          some[static_cast<std::size_t>(i)];
    StepState now = state.values()[0];
    now.gradient_norm = 0.2f + 0.01f * static_cast<float>(t % 150);
    now.finite = t % 50 == 49 ? 0 : 1;  // now and then a step is skipped
    testing::device().upload(state.data(), &now, sizeof now);
    const DeviceMatrix g_all(kFloat, kRows, cols, all), g_some(kFloat, count, cols, some);
    const AdamWParameter whole = dense.parameter(g_all.view);
    const DeviceArray<std::int32_t> ids(rows);
    CudaKernels& kernels = testing::device();
    kernels.adamw({&whole, 1}, schedule.data(), state.data(), 1);
    if (count > 0)  // ids of no memory would mean all rows
      kernels.adamw_replay(lazy.parameter(), ids.data(), count, updates.data(), schedule.data(), state.data());
    kernels.adamw_rows(lazy.parameter(g_some.view), ids.data(), updates.data(), schedule.data(), state.data(), 1);
    kernels.finish_step(state.data(), {}, {});
  }
  void catch_up() {
    testing::device().adamw_replay(lazy.parameter(), nullptr, 0, updates.data(), schedule.data(), state.data());
  }

  std::int64_t cols;
  State dense, lazy;
  DeviceArray<std::int32_t> updates{std::vector<std::int32_t>(kRows)};
  DeviceArray<AdamWUpdate> schedule;
  DeviceArray<StepState> state = on_device({});
};

class DeviceLazyAdamW : public ::testing::TestWithParam<std::int64_t> {};

TEST_P(DeviceLazyAdamW, HasTheBitsOfDense) {
  Pair pair(GetParam());
  std::mt19937 generator(3);
  for (std::int64_t t = 0; t < kAdamWSteps; ++t) {
    pair.step(t, generator);
    if (t == 400) {  // an evaluation in between
      pair.catch_up();
      ASSERT_EQ(pair.lazy.bits(), pair.dense.bits());
    }
    if (t == 970) {  // what the test is about has come about: momentum that has ended, and rows that lag behind
      EXPECT_EQ(pair.dense.m.values()[static_cast<std::size_t>(2 * pair.cols)], 0);
      EXPECT_NE(pair.dense.v.values()[static_cast<std::size_t>(2 * pair.cols)], 0);
      EXPECT_NE(pair.lazy.bits(), pair.dense.bits());
      EXPECT_EQ(pair.updates.values()[0], 401 - 8) << "since the evaluation, less the steps skipped before";
    }
  }
  pair.catch_up();
  EXPECT_EQ(pair.lazy.bits(), pair.dense.bits());
  EXPECT_TRUE(pair.lazy.working.intact());
  pair.lazy.values();  // watches the surroundings
  EXPECT_EQ(pair.updates.values(), std::vector<std::int32_t>(kRows, kAdamWSteps - kAdamWSteps / 50));
}

// In one block, in two, and in five; for dense and rows single elements and vectors of four.
INSTANTIATE_TEST_SUITE_P(Columns, DeviceLazyAdamW, ::testing::Values(13, 130, 12, 516));

// Momentum around the size at which it stops to show in the weight, over nothing but epsilon (0) or over the root of
// the second moment; some weights are powers of two, next to which numbers lie half as far apart.
class DeviceLazyMomentum : public ::testing::TestWithParam<double> {};

TEST_P(DeviceLazyMomentum, HasTheBitsOfDenseWhereItHardlyShows) {
  constexpr std::int64_t kCols = 130, kUpdates = 45;
  std::vector<double> weights, momentum;
  const std::vector<AdamWUpdate> coefficients_of = descending_schedule(kUpdates, 1e-3);
  for (std::int64_t c = 0; c < kCols; ++c) {
    const AdamWUpdate& first = coefficients_of[0];
    weights.push_back(c % 3 == 0 ? 1 : 1 + static_cast<double>(c) / 256);
    const double denominator = GetParam() + static_cast<double>(first.epsilon);
    const double shows = weights.back() * denominator / static_cast<double>(first.step_size);
    momentum.push_back((c % 2 == 0 ? 1 : -1) * shows * std::exp2(-static_cast<double>(c) / 4));
  }
  const double root = GetParam() / static_cast<double>(coefficients_of[0].inverse_correction);
  const std::vector<double> second(kCols, root * root);
  const State dense(1, kCols, weights, momentum, second), lazy(1, kCols, weights, momentum, second);
  const DeviceArray<AdamWUpdate> schedule(coefficients_of);
  const DeviceMatrix nothing(kFloat, 1, kCols, State::zeros(kCols));
  const AdamWParameter whole = dense.parameter(nothing.view);
  CudaKernels& kernels = testing::device();
  StepState now;
  for (now.updates = 0; now.updates < kUpdates; ++now.updates)
    kernels.adamw({&whole, 1}, schedule.data(), on_device(now).data(), 0);
  const DeviceArray<std::int32_t> updates({0});
  kernels.adamw_replay(lazy.parameter(), nullptr, 0, updates.data(), schedule.data(), on_device(now).data());
  EXPECT_EQ(lazy.bits(), dense.bits());
  EXPECT_EQ(updates.values(), std::vector<std::int32_t>{kUpdates});
}

INSTANTIATE_TEST_SUITE_P(Denominators, DeviceLazyMomentum, ::testing::Values(0, 1e-9, 1e-3, 10));

// A table of many times the rows of the one before, for whose counters of blocks there was room; a recording still has
// those that it was made with.
TEST(DeviceLazyAdamWEdge, ManyRowsAfterAFewAndTheFewAsRecorded) {
  constexpr std::int64_t kFew = 40, kMany = 200, kCols = 3;
  const State few(kFew, kCols), many(kMany, kCols);
  const DeviceArray<std::int32_t> of_few{std::vector<std::int32_t>(kFew)}, of_many{std::vector<std::int32_t>(kMany)};
  const DeviceArray<AdamWUpdate> schedule(descending_schedule(2, 1e-3));
  const DeviceArray<StepState> state = on_device({.updates = 1});
  CudaKernels kernels;  // that has counted no blocks yet
  const auto replay = [&](const State& table, const DeviceArray<std::int32_t>& updates) {
    kernels.adamw_replay(table.parameter(), nullptr, 0, updates.data(), schedule.data(), state.data());
  };
  replay(few, of_few);
  const auto recorded = kernels.record([&] { replay(few, of_few); });
  replay(many, of_many);
  std::vector<DeviceArray<unsigned>> others;  // where room is free now
  for (int i = 0; i < 32; ++i) others.emplace_back(std::vector<unsigned>(kFew, 1));
  const StepState later{.updates = 2};
  kernels.upload(state.data(), &later, sizeof later);
  EXPECT_EQ(of_many.values(), std::vector<std::int32_t>(kMany, 1));
  recorded->run();
  kernels.stream().synchronize();
  EXPECT_EQ(of_few.values(), std::vector<std::int32_t>(kFew, 2));
}

TEST(DeviceLazyAdamWEdge, WrongCallsAreRefused) {
  const State table(4, 3);
  const DeviceMatrix narrow(kFloat, 1, 2), half(kHalf, 4, 3), single(kFloat, 4, 3), other(kFloat, 4, 4);
  const DeviceArray<std::int32_t> ids({0, 0, 0, 0});
  const DeviceArray<AdamWUpdate> schedule({coefficients(1, 1e-3, 0)});
  const DeviceArray<StepState> state = on_device({});
  CudaKernels& kernels = testing::device();
  const auto dense = [&](const AdamWParameter& parameter) {
    kernels.adamw({&parameter, 1}, schedule.data(), state.data(), 0);
  };
  EXPECT_THROW(dense(table.parameter(narrow.view)), std::logic_error);
  EXPECT_THROW(dense(table.parameter(half.view)), std::logic_error) << "a gradient in f16";
  AdamWParameter wrong = table.parameter(single.view);
  wrong.working = single.view;
  EXPECT_THROW(dense(wrong), std::logic_error) << "a working copy in f32";
  wrong = table.parameter(single.view);
  wrong.first_moment = other.view;
  EXPECT_THROW(dense(wrong), std::logic_error);
  EXPECT_THROW(
      kernels.adamw_rows(table.parameter(narrow.view), ids.data(), ids.data(), schedule.data(), state.data(), 0),
      std::logic_error);
  EXPECT_THROW(
      kernels.adamw_replay(table.parameter({}, false), ids.data(), 1, ids.data(), schedule.data(), state.data()),
      std::logic_error);
}

}  // namespace
}  // namespace ember
