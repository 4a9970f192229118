// LayerNorm, rung 1: one thread for a row, as a loop over rows becomes a kernel when the loop is taken away.
//
// What is slow: neighbouring threads read addresses a row apart, so a warp's load of 64 bytes touches 32 sectors of 32
// bytes each; and 308 rows are 308 threads, of the tens of thousands that a GPU wants.
#pragma once

#include "bench/variants/cuda/layernorm_unfused.cuh"

namespace ember::variants {

__global__ void layernorm_thread_kernel(LayerNormRows a) {
  const auto row = static_cast<int>(thread_in_grid());
  if (row >= a.rows) return;
  float sum = 0, squares = 0;
  for (int c = 0; c < a.cols; ++c) sum += __half2float(a.x[row][c]);
  const float mean = sum / static_cast<float>(a.cols);
  for (int c = 0; c < a.cols; ++c) {
    const float distance = __half2float(a.x[row][c]) - mean;
    squares += distance * distance;
  }
  const float rstd = 1 / sqrtf(squares / static_cast<float>(a.cols) + a.norm.epsilon);
  a.mean[row] = mean;
  a.rstd[row] = rstd;
  for (int c = 0; c < a.cols; ++c) a.write(row, c, {mean, rstd});
}

inline void layernorm_thread(Device& device, const LayerNormCall& a) {
  add_residual<1>(device, a);
  launch_threads(device, "layernorm_thread", a.out.rows, 128, layernorm_thread_kernel, LayerNormRows(a));
}

}  // namespace ember::variants
