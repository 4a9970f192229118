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

// The sum over a block of kThreads threads (one dimension, whole warps), in thread 0. Once per kernel and type: the
// shared memory is not guarded against a second use.
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

}  // namespace ember
