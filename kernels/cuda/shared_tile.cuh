// Tiles of f16 in shared memory that ldmatrix reads and asynchronous copies fill.
#pragma once

#include <cstdint>

#include "kernels/cuda/vector_io.cuh"
#include "kernels/host_device.h"

namespace ember {

constexpr int kTileVector = 8;  // halves of a copy

// Halves from a row of a tile of so many columns, a multiple of kTileVector, to the next: an odd multiple of 16 bytes,
// so that the eight rows that ldmatrix reads together start in different banks.
EMBER_HOST_DEVICE constexpr int tile_stride(int columns) {
  return columns / kTileVector % 2 == 1 ? columns : columns + kTileVector;
}

__device__ inline void copy_or_clear(std::uint16_t* to, const __half* from, bool copies) {
  if (copies)
    begin_copy(to, from);
  else
    *reinterpret_cast<uint4*>(to) = make_uint4(0, 0, 0, 0);
}

}  // namespace ember
