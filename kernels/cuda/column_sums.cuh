// Column sums over the rows of a matrix, for gradients of parameters, in two stages of a fixed order: every block (or
// warp) sums rows that depend on nothing but the shape, and leaves its sums as parts; DeferredGradients adds those.
// The parts are (parts, S, part_stride(cols)) floats for S sums of `cols` columns, at most 3.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cuda/vector_io.cuh"
#include "runtime/ceil_div.h"

namespace ember {

constexpr int kRowWarps = 8;  // warps of a block that passes over rows

inline unsigned row_blocks(std::int64_t rows, unsigned most) {
  return std::min(blocks_for(rows, kRowWarps), most);
}

// Of a first stage: many rows share the blocks, so that the second stage stays small. Two blocks for each of an H100's
// or H200's 132 multiprocessors, as many as LayerNorm's backward, of 128 registers, has room for there. On every
// device, or sums would differ between them.
constexpr unsigned kMostParts = 2 * 132;
inline unsigned part_blocks(std::int64_t rows) {
  return row_blocks(rows, kMostParts);
}

// So that the parts of every width stay aligned for vectors.
inline std::int64_t part_stride(std::int64_t cols) {
  return round_up(cols, 8);
}

inline std::size_t part_bytes(std::int64_t parts, std::int64_t sums, std::int64_t cols) {
  return static_cast<std::size_t>(parts * sums * part_stride(cols)) * sizeof(float);
}

// ---- Element-wise operations ---------------------------------------------------------------------------------------
// Block (32, kRowWarps) over a tile of 32 V columns and every gridDim.y-th group of kRowWarps rows; a thread has V
// columns to itself.
template <int V>
struct ColumnTile {
  __device__ static int column() {
    return (static_cast<int>(blockIdx.x) * kWarpSize + static_cast<int>(threadIdx.x)) * V;
  }
  __device__ static int first_row() { return static_cast<int>(blockIdx.y) * kRowWarps + static_cast<int>(threadIdx.y); }
  __device__ static int row_step() { return static_cast<int>(gridDim.y) * kRowWarps; }

  // Adds the block's `totals` of its columns, one row of threads after another, into part blockIdx.y. All threads call.
  __device__ static void write_part(float* parts, const float (&totals)[V], int cols, int stride) {
    EMBER_SHARED(float, sums, kRowWarps* kWarpSize* V);
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

inline dim3 tile_grid(int width, std::int64_t cols, unsigned blocks_of_rows) {
  return dim3(blocks_for(cols, kWarpSize * width), blocks_of_rows);
}
inline dim3 tile_grid(int width, const Tensor& matrix) {
  constexpr unsigned kMostBlocks = 32768;  // what gridDim.y can be is 65,535
  return tile_grid(width, matrix.cols, row_blocks(matrix.rows, kMostBlocks));
}
inline dim3 tile_block() {
  return dim3(kWarpSize, kRowWarps);
}

}  // namespace ember
