// gradient_norm of gradients whose squares finish_gradients has summed (kernels/cuda/gradient_squares.h).
#pragma once

#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <vector>

#include "tests/cuda/cuda_support.h"

namespace ember::testing {

// A thread sums at most 64 squares in float, the rest is in double: 64 roundings of 6e-8, halved by the square root, if
// all were the same way.
constexpr double kNormRounding = 2e-6;

// Of the device, with a loss scale of 1.
inline StepState norm_of(const std::vector<Tensor>& gradients) {
  const DeviceArray<StepState> state(std::vector<StepState>(1, {.gradient_norm = -1, .finite = -1}));
  device().gradient_norm(state.data(), gradients);
  return state.values()[0];
}

// Whether the norm reads the gradients, of which `overwritten` is one: only who does notices what is put there.
inline bool reads_again(const DeviceMatrix& overwritten, const std::vector<Tensor>& gradients) {
  const std::vector<std::uint8_t> nan(static_cast<std::size_t>(overwritten.view.size()) * sizeof(float), 0xFF);
  device().upload(overwritten.view.data, nan.data(), nan.size());
  return norm_of(gradients).finite == 0;
}

// Returns the norm of the gradients that were finished last, held against their values.
inline StepState expect_norm_of(std::initializer_list<const DeviceMatrix*> gradients) {
  double sum = 0;
  std::vector<Tensor> views;
  for (const DeviceMatrix* gradient : gradients) {
    for (const double x : gradient->values()) sum += x * x;
    views.push_back(gradient->view);
  }
  const StepState state = norm_of(views);
  EXPECT_NEAR(state.gradient_norm, std::sqrt(sum), kNormRounding * std::sqrt(sum));
  EXPECT_EQ(state.finite, 1);
  return state;
}

}  // namespace ember::testing
