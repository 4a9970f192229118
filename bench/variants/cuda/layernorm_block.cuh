// LayerNorm, rung 2: one block for a row, and the threads' partial sums folded in halves through shared memory.
//
// It should buy most: neighbouring threads read neighbouring elements, so every sector is used whole, and there are 128
// times as many threads. What is left: a sum of 128 numbers takes nine barriers, two sums a row, and for 312 columns
// most threads have two or three elements to do between them.
#pragma once

#include "bench/variants/cuda/layernorm_unfused.cuh"

namespace ember::variants {

constexpr int kTreeThreads = 128;

// The sum over the block, in every thread. `partial`: kTreeThreads floats of shared memory.
__device__ inline float tree_sum(float* partial, float value) {
  const int thread = static_cast<int>(threadIdx.x);
  partial[thread] = value;
  __syncthreads();
  for (int half = kTreeThreads / 2; half > 0; half /= 2) {
    if (thread < half) partial[thread] += partial[thread + half];
    __syncthreads();
  }
  const float sum = partial[0];
  __syncthreads();  // all have read it before the next sum is written
  return sum;
}

__global__ void __launch_bounds__(kTreeThreads) layernorm_block_kernel(LayerNormRows a) {
  EMBER_SHARED(float, partial, kTreeThreads);
  const int row = static_cast<int>(blockIdx.x), first = static_cast<int>(threadIdx.x);
  float sum = 0, squares = 0;
  for (int c = first; c < a.cols; c += kTreeThreads) sum += __half2float(a.x[row][c]);
  const float mean = tree_sum(partial, sum) / static_cast<float>(a.cols);
  for (int c = first; c < a.cols; c += kTreeThreads) {
    const float distance = __half2float(a.x[row][c]) - mean;
    squares += distance * distance;
  }
  const float rstd = 1 / sqrtf(tree_sum(partial, squares) / static_cast<float>(a.cols) + a.norm.epsilon);
  if (first == 0) a.mean[row] = mean, a.rstd[row] = rstd;
  for (int c = first; c < a.cols; c += kTreeThreads) a.write(row, c, {mean, rstd});
}

inline void layernorm_block(Device& device, const LayerNormCall& a) {
  add_residual<1>(device, a);
  launch_threads(device, "layernorm_block", a.out.rows * kTreeThreads, kTreeThreads, layernorm_block_kernel,
                 LayerNormRows(a));
}

}  // namespace ember::variants
