// LayerNorm, rung 2: the same three passes in vectors. The loops are those of the shipped kernel: four vectors of
// partial sums side by side (sum_of in kernels/cpu/vector_math.h), and the random words of 16 or 32 blocks are computed
// together, all four of each used.
//
// It should buy most of what there is: the arithmetic becomes so cheap that a matrix larger than the cache waits for
// memory.
#pragma once

#include <vector>

#include "bench/variants/ladder.h"
#include "kernels/cpu/dropout.h"
#include "kernels/cpu/layernorm_row.h"

namespace ember::variants {

inline void layernorm_vectorised(const LayerNormCall& a) {
  const std::int64_t rows = a.out.rows, cols = a.out.cols;
  std::vector<float> multipliers(static_cast<std::size_t>(cols), 1.0f);
  const float *bias = a.bias.f32(), *kept = multipliers.data();
  for (std::int64_t r = 0; r < rows; ++r) {
    if (a.dropout.active()) dropout_multipliers(multipliers.data(), r * cols, cols, a.dropout);
    const float *in = a.in.row(r), *residual = a.residual.row(r);
    float* sum = a.sum.row(r);
#pragma omp simd
    for (std::int64_t c = 0; c < cols; ++c) sum[c] = residual[c] + kept[c] * (in[c] + bias[c]);
  }
  float *mean = a.moments.mean.f32(), *rstd = a.moments.rstd.f32();
  for (std::int64_t r = 0; r < rows; ++r) {
    const RowMoments row = row_moments(a.sum.row(r), cols, a.epsilon);
    mean[r] = row.mean, rstd[r] = row.rstd;
  }
  for (std::int64_t r = 0; r < rows; ++r)
    normalise_row(a.out.row(r), a.sum.row(r), {mean[r], rstd[r]}, a.norm.weight.f32(), a.norm.bias.f32(), cols);
}

}  // namespace ember::variants
