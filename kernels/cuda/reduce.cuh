// Sums over a warp or a block, in one fixed order.
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

// Whether this block is the last of its launch to come here, the same for all its threads; if so, volatile reads see
// what the first threads of the other blocks wrote before, and nothing that those read before is read any more. It says
// nothing of their other threads. `arrived` is 0 before a launch and after it. All threads of all blocks call.
// NVIDIA, CUDA C++ Programming Guide, "Memory Fence Functions".
__device__ inline bool last_block(unsigned* arrived) {
  EMBER_SHARED(bool, last, 1);
  if (threadIdx.x == 0) {
    __threadfence();
    last[0] = atomicAdd(arrived, 1u) + 1 == gridDim.x;
    if (last[0]) *arrived = 0;
  }
  __syncthreads();
  __threadfence();
  return last[0];
}

}  // namespace ember
