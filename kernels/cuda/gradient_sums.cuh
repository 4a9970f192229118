// The small sums among the gradients that wait for the end of backward (deferred_gradients.h), for blocks of a launch
// that computes a list of them:
//
//   few rows      dweight = doutᵀ in: a block has a tile of 64 x 64 elements of dweight, a thread 4 x 4 of them, and
//                 passes over the rows in steps of kStep, staged in shared memory. (O, I) of M rows: moves 4 O I bytes,
//                 and (O + I) M halves once per tile; 2 M O I operations, below what the same bytes cost where
//                 M <= kFewRows, so that a product of Matmul's would win nothing but another launch.
//   column sums   a block has 128 columns, a thread 4, or 32 and one where they are not aligned; thread rows take every
//                 kGroups-th row, kAhead of them asked for at once, then what they have is added. Reads an element
//                 once, for one addition.
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
constexpr int kAhead = 8, kVectorColumns = 4;
static_assert(kSharedFloats >= kThreads * kVectorColumns && kAcross * kAcross == kThreads);

// total += the columns from c on of every kGroups-th row.
template <int V, typename T>
__device__ void add_rows(float (&total)[V], const GradientJob& job, int first, int c) {
  const T* from = static_cast<const T*>(job.from) + c;
  for (int row = first; row < job.rows; row += kAhead * kGroups) {
    float x[kAhead][V] = {};
#pragma unroll
    for (int a = 0; a < kAhead; ++a)
      if (row + a * kGroups < job.rows) load<V>(x[a], from + (row + a * kGroups) * job.from_stride);
#pragma unroll
    for (int a = 0; a < kAhead; ++a)
#pragma unroll
      for (int j = 0; j < V; ++j) total[j] += x[a][j];
  }
}

template <int V>
__device__ void sum_columns(const GradientJob& job, int block, float* of_groups) {
  constexpr int kColumns = V * kWarpSize;
  const int thread = static_cast<int>(threadIdx.x), group = thread / kWarpSize, c = thread % kWarpSize * V;
  float total[V] = {};
  if (const int column = block * kColumns + c; column < job.cols)
    job.halves ? add_rows<V, __half>(total, job, group, column) : add_rows<V, float>(total, job, group, column);
  store<V>(of_groups + group * kColumns + c, total);
  __syncthreads();
  const int column = block * kColumns + thread;
  if (thread >= kColumns || column >= job.cols) return;
  float all = of_groups[thread];
  for (int g = 1; g < kGroups; ++g) all += of_groups[g * kColumns + thread];
  job.to[column] = all;
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
