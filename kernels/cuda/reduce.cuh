// Sums and maxima over a warp or a block, in one fixed order.
#pragma once

#include "kernels/cuda/vector_io.cuh"

namespace ember {

// The sum of all 32 lanes' values, in every lane.
template <typename T>
__device__ T warp_sum(T value) {
#pragma unroll
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(~0u, value, offset);
  return value;
}

// The largest of all 32 lanes' values, in every lane.
__device__ inline float warp_max(float value) {
#pragma unroll
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2) value = fmaxf(value, __shfl_xor_sync(~0u, value, offset));
  return value;
}

// The sum over a block of kThreads threads (one dimension, whole warps), in thread 0. A second use in a kernel, with
// the same type, needs a barrier between.
template <int kThreads, typename T>
__device__ T block_sum(T value) {
  static_assert(kThreads % kWarpSize == 0 && kThreads <= kWarpSize * kWarpSize);
  constexpr int kWarps = kThreads / kWarpSize;
  EMBER_SHARED(T, of_warps, kWarps);
  value = warp_sum(value);
  if (threadIdx.x % kWarpSize == 0) of_warps[threadIdx.x / kWarpSize] = value;
  __syncthreads();
  if (threadIdx.x >= kWarpSize) return value;
  return warp_sum(threadIdx.x < kWarps ? of_warps[threadIdx.x] : T{0});
}

// Whether this is the last of `count` blocks to come here; by one thread of each. If so, volatile reads see what these
// threads wrote before, and nothing that they read before is read any more: a fence and an atomic operation in each, an
// atomic operation and a fence in the last. `arrived` is 0 before the first and after the last. NVIDIA, CUDA C++
// Programming Guide, "Memory Fence Functions"; PTX ISA, "Memory Consistency Model".
__device__ inline bool arrives_last(unsigned* arrived, unsigned count) {
  __threadfence();
  if (atomicAdd(arrived, 1u) + 1 != count) return false;
  atomicExch(arrived, 0u);
  __threadfence();
  return true;
}

// The same of all blocks of a launch, for all threads of the last. It says nothing of the other blocks' threads but the
// first. All threads of all blocks call.
__device__ inline bool last_block(unsigned* arrived) {
  EMBER_SHARED(bool, last, 1);
  if (threadIdx.x == 0) last[0] = arrives_last(arrived, gridDim.x);
  __syncthreads();
  return last[0];
}

}  // namespace ember
