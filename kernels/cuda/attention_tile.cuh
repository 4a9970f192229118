// The pieces that attention's kernels are made of: f16 tiles in shared memory, fragments in registers, their products.
//
// A warp owns 16 rows and walks over tiles of up to 64 rows of the other side (queries over keys, or keys over queries)
// that its block stages in shared memory. Products are mma.m16n8k8 with f32 accumulators. Lane l = 4 g + t of a warp
// holds, in the layouts of that instruction (PTX ISA, "Matrix fragments for mma.m16n8k8"),
//   A (16 x 8): a[0] = columns 2 t, 2 t + 1 of row g, a[1] = the same of row g + 8;
//   D (16 x 8): d[0], d[1] = columns 2 t, 2 t + 1 of row g, d[2], d[3] = the same of row g + 8;
// so a D rounded to f16 is an A of the next product, without a detour through memory.
//
// kDim is the head dim rounded up to 32 or 64, and columns from the true head dim on are zeros: these two are all the
// instances there are. TinyBERT's 26 columns take four steps of 8 as 32 do, and only loads and stores know the
// difference, so an instance of its own would be the same code. The padding exists in shared memory and registers only.
#pragma once

#include <cstdint>

#include "kernels/cuda/shared_tile.cuh"

namespace ember::attention {

constexpr int kWarpRows = 16;              // rows of an A fragment
constexpr int kColumns = 8;                // columns of a D fragment
constexpr int kTileRows = 64;              // rows staged at a time
constexpr int kTileSteps = kTileRows / 8;  // products of 8 rows of the tile each

template <int kDim>
constexpr int kTileStride = tile_stride(kDim);
template <int kDim>
constexpr int kTileHalves = kTileRows* kTileStride<kDim>;

// Bits of f16 numbers in global memory, rows `stride` halves apart. `width` is how many halves an aligned access may
// take in every row, 8, 2 or 1, and divides `dim`, the number of columns.
struct HalfRows {
  std::uint16_t* data;
  std::int64_t stride;
  int dim, width;

  __device__ HalfRows block(std::int64_t row, int column) const {
    return {data + row * stride + column, stride, dim, width};
  }
};

__device__ inline int lane_row() {
  return lane_index() / 4;
}  // g
__device__ inline int lane_column() {
  return 2 * (lane_index() % 4);
}  // 2 t

// Columns `column` (even) and column + 1 of a row; zeros from the head dim on.
__device__ inline std::uint32_t load_pair(const std::uint16_t* row, int column, int dim, int width) {
  if (column >= dim) return 0;
  if (width > 1) return *reinterpret_cast<const std::uint32_t*>(row + column);
  const std::uint32_t low = row[column], high = column + 1 < dim ? row[column + 1] : 0;
  return low | high << 16;
}

// The first 16 rows as A fragments; zeros from row `rows` on. Straight from global memory, where only this warp reads
// them.
template <int kDim>
__device__ inline void load_fragments(std::uint32_t (&a)[kDim / 8][2], const HalfRows& from, int rows) {
#pragma unroll
  for (int k = 0; k < kDim / 8; ++k)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int r = lane_row() + 8 * half;
      a[k][half] = r < rows ? load_pair(from.data + r * from.stride, 8 * k + lane_column(), from.dim, from.width) : 0;
    }
}

// A tile in shared memory and the first rows of `from`, that go there.
struct Staged {
  std::uint16_t* tile;
  HalfRows from;
  int rows;
};

// The columns of a row that a thread copies at a time.
template <int kHalves>
struct Piece;
template <>
struct Piece<8> {
  using Words = uint4;
  __device__ static Words load(const HalfRows& from, int row, int column, int rows) {
    if (row >= rows || column >= from.dim) return make_uint4(0, 0, 0, 0);
    return *reinterpret_cast<const uint4*>(from.data + row * from.stride + column);
  }
};
template <>
struct Piece<2> {
  using Words = std::uint32_t;
  __device__ static Words load(const HalfRows& from, int row, int column, int rows) {
    return row < rows ? load_pair(from.data + row * from.stride, column, from.dim, from.width) : 0;
  }
};

// A thread asks for several pieces of all tiles before it waits for the first.
template <int kDim, int kHalves, int kTiles>
__device__ inline void stage_pieces(const Staged (&tiles)[kTiles], int filled) {
  constexpr int kPieces = kDim / kHalves, kAhead = kHalves == 8 ? 2 : 4;
  const int threads = static_cast<int>(blockDim.x), count = filled * kPieces;
#pragma unroll 1
  for (int begin = static_cast<int>(threadIdx.x); begin < count; begin += kAhead * threads) {
    typename Piece<kHalves>::Words words[kAhead][kTiles];
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      const int i = begin + a * threads, row = i / kPieces, column = i % kPieces * kHalves;
#pragma unroll
      for (int t = 0; t < kTiles; ++t)
        words[a][t] = Piece<kHalves>::load(tiles[t].from, row, column, i < count ? tiles[t].rows : 0);
    }
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      const int i = begin + a * threads, row = i / kPieces, column = i % kPieces * kHalves;
#pragma unroll
      for (int t = 0; t < kTiles; ++t)
        if (i < count)
          *reinterpret_cast<typename Piece<kHalves>::Words*>(tiles[t].tile + row * kTileStride<kDim> + column) =
              words[a][t];
    }
  }
}

// The block copies rows into each tile, followed by rows of zeros up to a multiple of kFill that is enough for the
// first, which has as many as any. All have the same width.
template <int kDim, int kFill = 8, int kTiles>
__device__ inline void stage(const Staged (&tiles)[kTiles]) {
  const int filled = (tiles[0].rows + kFill - 1) / kFill * kFill;
  if (tiles[0].from.width == 8)
    stage_pieces<kDim, 8>(tiles, filled);
  else
    stage_pieces<kDim, 2>(tiles, filled);
}

// Where this lane's row begins in the four 8 x 8 matrices that ldmatrix takes from 8 rows and 32 columns of a tile.
template <int kDim>
__device__ inline const std::uint16_t* matrix_row(const std::uint16_t* rows, int columns_from) {
  const int lane = lane_index();
  return rows + lane % 8 * kTileStride<kDim> + columns_from + lane / 8 * 8;
}

// 16 rows of a tile as A fragments.
template <int kDim>
__device__ inline void read_fragments(std::uint32_t (&a)[kDim / 8][2], const std::uint16_t* rows) {
  const int lane = lane_index();
#pragma unroll
  for (int k = 0; k < kDim / 8; k += 2) {
    std::uint32_t four[4];
    ldmatrix_x4(four, rows + lane % 16 * kTileStride<kDim> + 8 * k + lane / 16 * 8);
    a[k][0] = four[0], a[k][1] = four[1], a[k + 1][0] = four[2], a[k + 1][1] = four[3];
  }
}

// d (16 x 8) = a bᵀ, with a (16 x kDim) and b the 8 rows of a tile that start at `rows`.
template <int kDim>
__device__ inline void product_transposed(float (&d)[4], const std::uint32_t (&a)[kDim / 8][2],
                                          const std::uint16_t* rows) {
  d[0] = d[1] = d[2] = d[3] = 0;
#pragma unroll
  for (int k = 0; k < kDim / 8; k += 4) {
    std::uint32_t b[4];
    ldmatrix_x4(b, matrix_row<kDim>(rows, 8 * k));
#pragma unroll
    for (int i = 0; i < 4; ++i) mma_m16n8k8(d, a[k + i], b[i]);
  }
}

// d (16 x kDim) += a b, with a (16 x 8) and b the 8 rows of a tile that start at `rows`.
template <int kDim>
__device__ inline void add_product(float (&d)[kDim / 8][4], const std::uint32_t (&a)[2], const std::uint16_t* rows) {
#pragma unroll
  for (int n = 0; n < kDim / 8; n += 4) {
    std::uint32_t b[4];
    ldmatrix_x4_trans(b, matrix_row<kDim>(rows, 8 * n));
#pragma unroll
    for (int i = 0; i < 4; ++i) mma_m16n8k8(d[n + i], a, b[i]);
  }
}

template <int kDim>
__device__ inline void clear(float (&d)[kDim / 8][4]) {
#pragma unroll
  for (int n = 0; n < kDim / 8; ++n) d[n][0] = d[n][1] = d[n][2] = d[n][3] = 0;
}

// Multiplies row g of d by factors[0], row g + 8 by factors[1].
template <int kDim>
__device__ inline void scale_rows(float (&d)[kDim / 8][4], const float (&factors)[2]) {
#pragma unroll
  for (int n = 0; n < kDim / 8; ++n)
#pragma unroll
    for (int c = 0; c < 4; ++c) d[n][c] *= factors[c / 2];
}

// Writes the first `rows` of the 16 rows of d, rounded to f16.
template <int kDim>
__device__ inline void store(const HalfRows& to, const float (&d)[kDim / 8][4], int rows) {
#pragma unroll
  for (int n = 0; n < kDim / 8; ++n)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int r = lane_row() + 8 * half, column = 8 * n + lane_column();
      if (r >= rows || column >= to.dim) continue;
      std::uint16_t* place = to.data + r * to.stride + column;
      const std::uint32_t pair = pack(&d[n][2 * half]);
      if (to.width > 1) {
        *reinterpret_cast<std::uint32_t*>(place) = pair;
      } else {
        place[0] = static_cast<std::uint16_t>(pair);
        if (column + 1 < to.dim) place[1] = static_cast<std::uint16_t>(pair >> 16);
      }
    }
}

// Over the four lanes that share the rows g and g + 8.
__device__ inline float quad_sum(float value) {
  value += __shfl_xor_sync(~0u, value, 1);
  return value + __shfl_xor_sync(~0u, value, 2);
}
__device__ inline float quad_max(float value) {
  value = fmaxf(value, __shfl_xor_sync(~0u, value, 1));
  return fmaxf(value, __shfl_xor_sync(~0u, value, 2));
}

}  // namespace ember::attention
