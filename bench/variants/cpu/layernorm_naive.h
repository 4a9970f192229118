// LayerNorm, rung 1: one pass over the matrix for the sum, one for the rows' moments, one for the output, as the
// formulas stand, on one thread.
//
// What is slow: C additions that wait for each other, since without leave the compiler may not change the order of a
// sum; a random block for every element; and a matrix that does not fit the cache is fetched three times.
#pragma once

#include <cmath>

#include "bench/variants/cpu/naive_dropout.h"
#include "bench/variants/ladder.h"

namespace ember::variants {

inline void naive_moments(const float* x, std::int64_t cols, float epsilon, float& mean, float& rstd) {
  float sum = 0, squares = 0;
  for (std::int64_t c = 0; c < cols; ++c) sum += x[c];
  mean = sum / static_cast<float>(cols);
  for (std::int64_t c = 0; c < cols; ++c) squares += (x[c] - mean) * (x[c] - mean);
  rstd = 1 / std::sqrt(squares / static_cast<float>(cols) + epsilon);
}

inline void layernorm_naive(const LayerNormCall& a) {
  const std::int64_t rows = a.out.rows, cols = a.out.cols;
  float *mean = a.moments.mean.f32(), *rstd = a.moments.rstd.f32();
  const float *bias = a.bias.f32(), *weight = a.norm.weight.f32(), *shift = a.norm.bias.f32();
  for (std::int64_t r = 0; r < rows; ++r) {
    const float *in = a.in.row(r), *residual = a.residual.row(r);
    float* sum = a.sum.row(r);
    for (std::int64_t c = 0; c < cols; ++c)
      sum[c] = residual[c] + multiplier(a.dropout, r * cols + c) * (in[c] + bias[c]);
  }
  for (std::int64_t r = 0; r < rows; ++r) naive_moments(a.sum.row(r), cols, a.epsilon, mean[r], rstd[r]);
  for (std::int64_t r = 0; r < rows; ++r) {
    const float* sum = a.sum.row(r);
    float* out = a.out.row(r);
    for (std::int64_t c = 0; c < cols; ++c) out[c] = (sum[c] - mean[r]) * rstd[r] * weight[c] + shift[c];
  }
}

}  // namespace ember::variants
