// The small sums among the gradients that wait for the end of backward (deferred_gradients.h), for blocks of a launch
// that computes a list of them:
//
//   few rows      dweight = doutᵀ in: a block has a tile of 64 x 64 elements of dweight, a thread 4 x 4 of them, and
//   passes
//                 over the rows in steps of kStep, staged in shared memory. (O, I) of M rows: moves 4 O I bytes, and
//                 (O + I) M halves once per tile; 2 M O I operations, below what the same bytes cost where M <=
//                 kFewRows, so that a product of Matmul's would win nothing but another launch.
//   column sums   a block has 32 columns; thread rows take every kGroups-th row, then the first adds what the others
//                 have. Reads an element once, for one addition.
//   tokens        the embeddings' tables (token_sums.cuh): 128 threads to a row, 4 columns to a thread.
#pragma once

#include "kernels/cuda/gradient_job.cuh"
#include "kernels/cuda/token_sums.cuh"

namespace ember::gradient_sums {

constexpr std::int64_t kFewRows = 64;
constexpr int kThreads = kGradientThreads, kGroups = kThreads / kWarpSize;
constexpr int kTile = 64, kEach = 4, kAcross = kTile / kEach, kStep = 16;
constexpr int kTableRows = kThreads / kSumThreads;  // a block
constexpr int kSharedFloats = 2 * kStep * kTile;    // what sum_columns and multiply_few_rows are given
static_assert(kSharedFloats >= kThreads && kAcross * kAcross == kThreads);

template <typename T>
__device__ float sum_of_rows(const GradientJob& job, int first, int c) {
  const T* from = static_cast<const T*>(job.from) + c;
  float total = 0;
#pragma unroll 4
  for (int row = first; row < job.rows; row += kGroups) {
    float x[1];
    load<1>(x, from + row * job.from_stride);
    total += x[0];
  }
  return total;
}

__device__ inline void sum_columns(const GradientJob& job, int block, float* of_groups) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize, group = static_cast<int>(threadIdx.x) / kWarpSize;
  const int c = block * kWarpSize + lane;
  float total = 0;
  if (c < job.cols) total = job.halves ? sum_of_rows<__half>(job, group, c) : sum_of_rows<float>(job, group, c);
  of_groups[threadIdx.x] = total;
  __syncthreads();
  if (group != 0 || c >= job.cols) return;
  for (int g = 1; g < kGroups; ++g) total += of_groups[g * kWarpSize + lane];
  job.to[c] = total;
}

// Columns [first, first + kTile) of kStep rows as floats, zeros past the end.
__device__ inline void stage(float* to, const __half* from, std::int64_t stride, int rows, int cols, int first) {
  for (int i = static_cast<int>(threadIdx.x); i < kStep * kTile; i += kThreads) {
    const int row = i / kTile, c = first + i % kTile;
    to[i] = row < rows && c < cols ? __half2float(from[row * stride + c]) : 0.0f;
  }
}

__device__ inline void multiply_few_rows(const GradientJob& job, int block, float* douts) {
  float* ins = douts + kStep * kTile;
  const int tiles = (job.inputs + kTile - 1) / kTile;
  const int output = block / tiles * kTile, input = block % tiles * kTile;
  const int x = static_cast<int>(threadIdx.x) % kAcross, y = static_cast<int>(threadIdx.x) / kAcross;
  const auto* dout = static_cast<const __half*>(job.from);
  float sums[kEach][kEach] = {};
  for (int begin = 0; begin < job.rows; begin += kStep) {
    if (begin > 0) __syncthreads();  // all have read the rows before
    stage(douts, dout + begin * job.from_stride, job.from_stride, job.rows - begin, job.cols, output);
    stage(ins, job.in + begin * job.in_stride, job.in_stride, job.rows - begin, job.inputs, input);
    __syncthreads();
    for (int row = 0; row < kStep; ++row) {
#pragma unroll
      for (int a = 0; a < kEach; ++a)
#pragma unroll
        for (int b = 0; b < kEach; ++b)
          sums[a][b] += douts[row * kTile + y + a * kAcross] * ins[row * kTile + x + b * kAcross];
    }
  }
#pragma unroll
  for (int a = 0; a < kEach; ++a)
#pragma unroll
    for (int b = 0; b < kEach; ++b) {
      const int o = output + y + a * kAcross, i = input + x + b * kAcross;
      if (o < job.cols && i < job.inputs) job.to[o * job.to_stride + i] = sums[a][b];
    }
}

__device__ inline void sum_table_rows(const TokenSums& tokens, int rows, int block) {
  const int thread = static_cast<int>(threadIdx.x), row = block * kTableRows + thread / kSumThreads;
  if (row >= rows) return;
  if (tokens.vectors)
    sum_tokens<4>(tokens, row, thread % kSumThreads);
  else
    sum_tokens<1>(tokens, row, thread % kSumThreads);
}

}  // namespace ember::gradient_sums
