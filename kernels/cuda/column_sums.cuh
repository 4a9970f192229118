// Column sums over the rows of a matrix, for gradients of parameters, in two stages of a fixed order: every block (or
// warp) sums rows that depend on nothing but the shape, and leaves its sums in scratch; a second kernel adds those.
// The parts are (parts, S, part_stride(cols)) floats for S sums of `cols` columns.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/cuda/vector_io.cuh"
#include "runtime/cuda/launch.h"

namespace ember {

constexpr int kRowWarps = 8;        // warps of a block that passes over rows
constexpr int kMostRowBlocks = 128;  // of such blocks: more rows share them

// So that parts of every width stay aligned for vectors.
inline std::int64_t part_stride(std::int64_t cols) {
  return (cols + 7) / 8 * 8;
}

inline std::size_t part_bytes(std::int64_t parts, std::int64_t sums, std::int64_t cols) {
  return static_cast<std::size_t>(parts * sums * part_stride(cols)) * sizeof(float);
}

inline unsigned row_blocks(std::int64_t rows) {
  return blocks_for(rows, kRowWarps) < kMostRowBlocks ? blocks_for(rows, kRowWarps) : kMostRowBlocks;
}

// Where sums 0 to 2 go, (cols) each. No array: a subscript that is no constant would put it into local memory.
struct SumTargets {
  float *first, *second, *third;
};

constexpr int kSumGroups = 8;  // threads that share a column in the second stage

// Target s [c] = sum over p of parts[p][s][c]: each of kSumGroups threads adds every kSumGroups-th part, then one adds
// theirs. Grid (columns / 32, S), block (32, kSumGroups).
static __global__ void __launch_bounds__(kWarpSize* kSumGroups)
    add_parts_kernel(SumTargets targets, const float* parts, int count, int cols, int stride) {
  EMBER_SHARED(float, group_sums, kSumGroups * kWarpSize);
  const int c = static_cast<int>(blockIdx.x) * kWarpSize + static_cast<int>(threadIdx.x);
  const int group = static_cast<int>(threadIdx.y);
  float total = 0;
  if (c < cols)
    for (int p = group; p < count; p += kSumGroups)
      total += parts[(static_cast<std::int64_t>(p) * gridDim.y + blockIdx.y) * stride + c];
  group_sums[group * kWarpSize + threadIdx.x] = total;
  __syncthreads();
  if (group != 0 || c >= cols) return;
  for (int g = 1; g < kSumGroups; ++g) total += group_sums[g * kWarpSize + threadIdx.x];
  (blockIdx.y == 0 ? targets.first : blockIdx.y == 1 ? targets.second : targets.third)[c] = total;
}

// The second stage, for up to three sums. Without parts the sums are zeros.
inline void add_parts(cudaStream_t stream, std::span<const Tensor> sums, const void* parts, std::int64_t count) {
  const Tensor* sum = sums.data();
  const std::int64_t cols = sum->cols;
  if (cols == 0) return;
  const auto target = [&](std::size_t s) { return s < sums.size() ? sum[s].f32() : nullptr; };
  launch("add_parts", stream, dim3(blocks_for(cols, kWarpSize), static_cast<unsigned>(sums.size())),
         dim3(kWarpSize, kSumGroups), 0, add_parts_kernel, SumTargets{target(0), target(1), target(2)},
         static_cast<const float*>(parts), static_cast<int>(count), static_cast<int>(cols),
         static_cast<int>(part_stride(cols)));
}

// ---- First stage of element-wise operations ------------------------------------------------------------------------
// Block (32, kRowWarps) over a tile of 32 V columns and every gridDim.y-th group of kRowWarps rows; a thread has V
// columns to itself.
template <int V>
struct ColumnTile {
  __device__ static int column() { return (static_cast<int>(blockIdx.x) * kWarpSize + static_cast<int>(threadIdx.x)) * V; }
  __device__ static int first_row() { return static_cast<int>(blockIdx.y) * kRowWarps + static_cast<int>(threadIdx.y); }
  __device__ static int row_step() { return static_cast<int>(gridDim.y) * kRowWarps; }

  // Adds the block's `totals` of its columns, one row of threads after another, into part blockIdx.y. All threads call.
  __device__ static void write_part(float* parts, const float (&totals)[V], int cols, int stride) {
    EMBER_SHARED(float, sums, kRowWarps * kWarpSize * V);
    store<V>(sums + (threadIdx.y * kWarpSize + threadIdx.x) * V, totals);
    __syncthreads();
    const int tile = static_cast<int>(blockIdx.x) * kWarpSize * V;
    for (int i = static_cast<int>(threadIdx.y * kWarpSize + threadIdx.x); i < kWarpSize * V && tile + i < cols;
         i += kWarpSize * kRowWarps) {
      float total = 0;
      for (int y = 0; y < kRowWarps; ++y) total += sums[y * kWarpSize * V + i];
      parts[static_cast<std::int64_t>(blockIdx.y) * stride + tile + i] = total;
    }
  }
};

template <int V>
dim3 tile_grid(std::int64_t rows, std::int64_t cols) {
  return dim3(blocks_for(cols, kWarpSize * V), row_blocks(rows));
}
constexpr dim3 tile_block() {
  return dim3(kWarpSize, kRowWarps);
}

}  // namespace ember
