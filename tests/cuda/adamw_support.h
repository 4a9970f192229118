// What the tests of AdamW on the device share: schedules, and tensors with their optimizer's state.
#pragma once

#include <bit>
#include <cstdint>
#include <vector>

#include "tests/adamw_steps.h"
#include "tests/cuda/cuda_support.h"

namespace ember::testing {

inline std::vector<AdamWUpdate> descending_schedule(std::int64_t steps, double first_rate) {
  std::vector<AdamWUpdate> schedule;
  for (std::int64_t t = 0; t < steps; ++t)
    schedule.push_back(
        coefficients(t + 1, first_rate * static_cast<double>(steps - t) / static_cast<double>(steps), 0.01));
  return schedule;
}

inline DeviceArray<StepState> on_device(const StepState& state) {
  return DeviceArray<StepState>(std::vector<StepState>(1, state));
}

// A tensor with its optimizer's state on the device.
struct State {
  State(std::int64_t rows, std::int64_t cols, Layout layout = {}, unsigned seed = 9)
      : State(rows, cols, draw(rows * cols, seed, 0.05f), zeros(rows * cols), zeros(rows * cols), layout) {}
  State(std::int64_t rows, std::int64_t cols, const std::vector<double>& w, const std::vector<double>& m0,
        const std::vector<double>& v0, Layout layout = {})
      : weights(kFloat, rows, cols, w, layout),
        m(kFloat, rows, cols, m0, layout),
        v(kFloat, rows, cols, v0, layout),
        working(kHalf, rows, cols, {}, layout) {}

  static std::vector<double> zeros(std::int64_t count) { return std::vector<double>(static_cast<std::size_t>(count)); }

  AdamWParameter parameter(Tensor gradient = {}, bool decayed = true) const {
    return {weights.view, m.view, v.view, working.view, gradient, decayed};
  }
  std::vector<std::vector<float>> values() const { return testing::device_results({&weights, &m, &v}); }
  // Weights, moments and working copy as bits.
  std::vector<std::uint32_t> bits() const {
    std::vector<std::uint32_t> out;
    for (const DeviceMatrix* matrix : {&weights, &m, &v, &working})
      for (const float value : matrix->values()) out.push_back(std::bit_cast<std::uint32_t>(value));
    return out;
  }
  DeviceMatrix weights, m, v, working;
};

}  // namespace ember::testing
