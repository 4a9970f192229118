// Sums over rows by a block whose warps share the rows, for columns that are a few to a lane.
#pragma once

#include "kernels/cuda/gradient_job.cuh"
#include "kernels/cuda/vector_io.cuh"

namespace ember {

constexpr int kSumWarps = kGradientThreads / kWarpSize;
template <int V>
constexpr int kSumColumns = V* kWarpSize;  // of a block, V to a lane
template <int V>
constexpr int kSumFloats = kSumWarps* kSumColumns<V>;  // of shared memory

// total += what load(i, x) leaves in x, for i = first, first + step, ... below `count`; x is zero before. Several are
// asked for at once.
template <int V, typename Load>
__device__ void add_rows(float (&total)[V], int first, int step, int count, const Load& load) {
  constexpr int kAhead = 8;
  for (int i = first; i < count; i += kAhead * step) {
    float x[kAhead][V] = {};
#pragma unroll
    for (int a = 0; a < kAhead; ++a)
      if (i + a * step < count) load(i + a * step, x[a]);
#pragma unroll
    for (int a = 0; a < kAhead; ++a)
#pragma unroll
      for (int j = 0; j < V; ++j) total[j] += x[a][j];
  }
}

// to[0, cols), at most kSumColumns<V>, = the sums of the warps' totals, in their order; adds what it writes to the
// squares. memory: kSumFloats<V>. All threads call.
template <int V>
__device__ void write_block_sum(float* to, const float (&total)[V], int cols, float* memory, float& squares) {
  const int thread = static_cast<int>(threadIdx.x);
  store<V>(memory + thread * V, total);
  __syncthreads();
  if (thread >= kSumColumns<V> || thread >= cols) return;
  float all = memory[thread];
  for (int w = 1; w < kSumWarps; ++w) all += memory[w * kSumColumns<V> + thread];
  to[thread] = all;
  squares += all * all;
}

}  // namespace ember
