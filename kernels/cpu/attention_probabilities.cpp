#include "kernels/cpu/attention_probabilities.h"

#include <algorithm>
#include <limits>

#include "kernels/cpu/small_product.h"
#include "kernels/cpu/vector_math.h"

namespace ember {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Added to a row's last panel from kHide + its unused columns on: they become -infinity, whose exponential is zero. A
// table, because a load of a panel would stall on the single stores just made into it.
alignas(64) constexpr float kHide[2 * kPanel] = {
    0,          0,          0,          0,          0,          0,          0,          0,
    0,          0,          0,          0,          0,          0,          0,          0,
    -kInfinity, -kInfinity, -kInfinity, -kInfinity, -kInfinity, -kInfinity, -kInfinity, -kInfinity,
    -kInfinity, -kInfinity, -kInfinity, -kInfinity, -kInfinity, -kInfinity, -kInfinity, -kInfinity};

float largest(const float* scores, std::int64_t columns) {
  const auto larger = [](float a, float b) { return a > b ? a : b; };
  float lanes[kPanel];
  std::fill_n(lanes, kPanel, -kInfinity);
  for (std::int64_t begin = 0; begin < columns; begin += kPanel) {
#pragma omp simd
    for (std::int64_t j = 0; j < kPanel; ++j) lanes[j] = larger(scores[begin + j], lanes[j]);
  }
  return fold(lanes, larger);
}

// exp(score - offset) in place of each score; returns their sum.
float exponentials(float* scores, std::int64_t columns, float offset) {
  float sums[kPanel] = {};
  for (std::int64_t begin = 0; begin < columns; begin += kPanel) {
#pragma omp simd
    for (std::int64_t j = 0; j < kPanel; ++j) {
      const float value = vector_exp(scores[begin + j] - offset);
      scores[begin + j] = value;
      sums[j] += value;
    }
  }
  return fold(sums, [](float a, float b) { return a + b; });
}

}  // namespace

void softmax(float* scores, std::int64_t stride, std::int64_t rows, std::int64_t length) {
  const std::int64_t columns = whole_panels(length), last = columns - kPanel;
  const float* hide = kHide + (columns - length);
  float offsets[kProbabilityRows], inverses[kProbabilityRows];
  for (std::int64_t r = 0; r < rows; ++r) {
    float* row = scores + r * stride;
#pragma omp simd
    for (std::int64_t j = 0; j < kPanel; ++j) row[last + j] += hide[j];
    offsets[r] = largest(row, columns);
  }
  for (std::int64_t r = 0; r < rows; ++r) inverses[r] = 1 / exponentials(scores + r * stride, columns, offsets[r]);
  for (std::int64_t r = 0; r < rows; ++r) {
    float* row = scores + r * stride;
    const float inverse = inverses[r];
#pragma omp simd
    for (std::int64_t j = 0; j < columns; ++j) row[j] *= inverse;
  }
}

namespace {

template <bool kDropout>
void backward_rows(float* probabilities, float* gradients, const float* multipliers, std::int64_t stride,
                   std::int64_t rows, std::int64_t length) {
  const std::int64_t columns = whole_panels(length);
  float rowsums[kProbabilityRows];
  for (std::int64_t r = 0; r < rows; ++r) {
    float sums[kPanel] = {};
    for (std::int64_t begin = r * stride; begin < r * stride + columns; begin += kPanel) {
      const float *p = probabilities + begin, *m = kDropout ? multipliers + begin : nullptr;
      float* dp = gradients + begin;
#pragma omp simd
      for (std::int64_t j = 0; j < kPanel; ++j) {
        if constexpr (kDropout) dp[j] *= m[j];
        sums[j] += dp[j] * p[j];
      }
    }
    rowsums[r] = fold(sums, [](float a, float b) { return a + b; });
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    const float rowsum = rowsums[r];
    for (std::int64_t begin = r * stride; begin < r * stride + columns; begin += kPanel) {
      const float* m = kDropout ? multipliers + begin : nullptr;
      float *p = probabilities + begin, *dp = gradients + begin;
#pragma omp simd
      for (std::int64_t j = 0; j < kPanel; ++j) {
        dp[j] = p[j] * (dp[j] - rowsum);
        if constexpr (kDropout) p[j] *= m[j];
      }
    }
  }
}

}  // namespace

void softmax_backward(float* probabilities, float* gradients, const float* multipliers, std::int64_t stride,
                      std::int64_t rows, std::int64_t length) {
  (multipliers != nullptr ? backward_rows<true> : backward_rows<false>)(probabilities, gradients, multipliers, stride,
                                                                        rows, length);
}

}  // namespace ember
