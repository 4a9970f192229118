// LayerNorm of one row, shared by the operations that contain one (Ba, Kiros and Hinton, "Layer normalization", 2016):
//   out = (x - mean) rstd weight + bias,  rstd = 1 / sqrt(variance + epsilon), the variance over C and not C - 1.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/cpu/vector_math.h"
#include "runtime/tensor.h"

namespace ember {

struct RowMoments {
  float mean, rstd;
};

// Two passes, since the mean of squares less the square of the mean would cancel.
inline RowMoments row_moments(const float* x, std::int64_t cols, float epsilon) {
  const float mean = sum_of(cols, [=](std::int64_t c) { return x[c]; }) / static_cast<float>(cols);
  const float squares = sum_of(cols, [=](std::int64_t c) { return (x[c] - mean) * (x[c] - mean); });
  return {mean, 1.0f / std::sqrt(squares / static_cast<float>(cols) + epsilon)};
}

inline void normalise_row(float* out, const float* x, RowMoments moments, const float* weight, const float* bias,
                          std::int64_t cols) {
#pragma omp simd
  for (std::int64_t c = 0; c < cols; ++c) out[c] = (x[c] - moments.mean) * moments.rstd * weight[c] + bias[c];
}

inline void add_rows(float* sum, const float* a, const float* b, std::int64_t cols) {
#pragma omp simd
  for (std::int64_t c = 0; c < cols; ++c) sum[c] = a[c] + b[c];
}

// The gradient of a LayerNorm's output, dout + dbranch: the sum, written to `sum`, which may be either; or dout itself
// where dbranch is empty.
inline const float* output_gradient(float* sum, Tensor dout, Tensor dbranch, std::int64_t row) {
  if (dbranch.empty()) return dout.row(row);
  add_rows(sum, dout.row(row), dbranch.row(row), dout.cols);
  return sum;
}

// With y = (x - mean) rstd and g = dout weight: dx = rstd (g - mean of g - y (mean of g y)); adds dout y to dweight and
// dout to dbias. dx may be dout.
inline void normalise_row_backward(float* dx, float* dweight, float* dbias, const float* dout, const float* x,
                                   RowMoments moments, const float* weight, std::int64_t cols) {
  const float mean = moments.mean, rstd = moments.rstd;
  float sum_g = 0, sum_gy = 0;
#pragma omp simd reduction(+ : sum_g, sum_gy)
  for (std::int64_t c = 0; c < cols; ++c) {
    const float y = (x[c] - mean) * rstd, g = dout[c] * weight[c];
    sum_g += g;
    sum_gy += g * y;
    dweight[c] += dout[c] * y;
    dbias[c] += dout[c];
  }
  const float mean_g = sum_g / static_cast<float>(cols), mean_gy = sum_gy / static_cast<float>(cols);
#pragma omp simd
  for (std::int64_t c = 0; c < cols; ++c) {
    const float y = (x[c] - mean) * rstd;
    dx[c] = rstd * (dout[c] * weight[c] - mean_g - y * mean_gy);
  }
}

}  // namespace ember
