// The small sums among the gradients that wait for the end of backward (deferred_gradients.h), for blocks of a launch
// that computes a list of them:
//
//   few rows      dweight = doutᵀ in: a block has a tile of 64 x 64 elements of dweight, a thread 4 x 4 of them, and
//                 passes over the rows in steps of kStep, staged in shared memory. (O, I) of M rows: moves 4 O I bytes,
//                 and 128 M halves for each tile; 2 M O I operations, below what the same bytes cost where
//                 M <= kFewRows, so that a product of Matmul's would win nothing but another launch.
//   column sums   a block has 128 columns, a lane 4, or 32 and one where they are not aligned; its warps take the rows
//                 by turns, then what they have is added. Reads an element once, for one addition.
//   tokens        the embeddings' tables: token_sums.cuh.
//
// Each adds what it writes to its thread's squares.
#pragma once

#include "kernels/cuda/gradient_job.cuh"
#include "kernels/cuda/row_sums.cuh"

namespace ember::gradient_sums {

constexpr std::int64_t kFewRows = 64;
constexpr int kThreads = kGradientThreads;
constexpr int kTile = 64, kEach = 4, kAcross = kTile / kEach, kStep = 16;
constexpr int kVectorColumns = 4;
constexpr int kSharedFloats = 2 * kStep * kTile;  // what each of them is given
static_assert(kSharedFloats >= kSumFloats<kVectorColumns> && kAcross * kAcross == kThreads);

template <int V, typename T>
__device__ void add_columns(float (&total)[V], const GradientJob& job, int c) {
  const T* from = static_cast<const T*>(job.from) + c;
  add_rows<V>(total, static_cast<int>(threadIdx.x) / kWarpSize, kSumWarps, job.rows,
              [&](int row, float(&x)[V]) { load<V>(x, from + row * job.from_stride); });
}

template <int V>
__device__ void sum_columns(const GradientJob& job, int block, float* memory, float& squares) {
  const int begin = block * kSumColumns<V>, c = begin + lane_index() * V;
  float total[V] = {};
  if (c < job.cols) job.halves ? add_columns<V, __half>(total, job, c) : add_columns<V, float>(total, job, c);
  write_block_sum<V>(job.to + begin, total, job.cols - begin, memory, squares);
}

// Columns [first, first + kTile) of kStep rows as floats, zeros past the end.
__device__ inline void stage(float* to, const __half* from, std::int64_t stride, int rows, int cols, int first) {
  for (int i = static_cast<int>(threadIdx.x); i < kStep * kTile; i += kThreads) {
    const int row = i / kTile, c = first + i % kTile;
    to[i] = row < rows && c < cols ? __half2float(from[row * stride + c]) : 0.0f;
  }
}

__device__ inline void multiply_few_rows(const GradientJob& job, int block, float* douts, float& squares) {
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
      if (o < job.cols && i < job.inputs) {
        job.to[o * job.to_stride + i] = sums[a][b];
        squares += sums[a][b] * sums[a][b];
      }
    }
}

}  // namespace ember::gradient_sums
