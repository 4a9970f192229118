// The kernel of products of few rows (few_rows_product.h) on tensor cores, mma.m16n8k16, and what may follow in it.
//
// A block has all of its operands in shared memory at once, so that it waits once, and its share of the weight is on
// its way before the grid before this one is done. What it waits for are its rows; so a long row has blocks of 16 rows
// and more columns, which read fewer rows altogether. A warp has 16 rows and 24 columns of the block, and where a block
// has fewer of those than warps, the others take turns of 32 inputs, so that chains of dependent sums are shorter; the
// parts are added in order.
//
//   block            warps by rows, columns, inputs     where
//   16 x 24          1 x 1 x 8                          up to 16 rows
//   16 x 48          1 x 2 x 4                          more than 640 inputs, while all blocks run at once
//   32 x 48          2 x 2 x 2                          more than 640 inputs
//   32 x 24          2 x 1 x 4                          elsewhere, while that gives no more blocks than multiprocessors
//   32 x 96          2 x 4 x 1                          elsewhere
//
// Inputs beyond the last, up to a multiple of 32, are zeros, as are rows and columns beyond the last.
// Moves 2 (M I + O I + M O) bytes, more where several blocks read the same from the second-level cache; 2 M O I
// operations.
#pragma once

#include <algorithm>
#include <type_traits>

#include "kernels/cuda/few_rows_product.h"
#include "kernels/cuda/shared_tile.cuh"
#include "runtime/cuda/device.h"
#include "runtime/cuda/launch.h"

namespace ember::few_rows {

constexpr int kWarps = 8, kThreads = kWarps * kWarpSize;
constexpr int kWarpRows = 16, kColumns = 8, kFragments = 3;  // of a warp; of a fragment; of a warp
constexpr int kStep = 32;                                    // inputs that a warp takes at a time
constexpr std::int64_t kManyInputs = 640;
constexpr int kTogether = 4;  // blocks that a multiprocessor's registers have room for

struct Operands {
  Rows<const __half> in, weight;
  int rows, outputs, inputs;
};

EMBER_HOST_DEVICE constexpr int steps_of(int inputs) {
  return (inputs + kStep - 1) / kStep;
}

// How a block's warps divide its rows, its columns and, where there are more of them, the inputs.
template <int kByRows, int kByColumns, bool kTransposedWeight>
struct Division {
  static constexpr bool kTransposed = kTransposedWeight;
  static constexpr int kRows = kByRows * kWarpRows, kWidth = kByColumns * kFragments * kColumns;
  static constexpr int kTiles = kByRows * kByColumns, kParts = kWarps / kTiles;
  static constexpr std::size_t kSums = sizeof(float4) * (kParts - 1) * kTiles * kFragments * kWarpSize;

  // The calling warp's.
  int part, tile, row, column;
  __device__ Division() {
    const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
    part = warp % kParts;
    tile = warp / kParts;
    row = tile / kByColumns * kWarpRows;
    column = tile % kByColumns * kFragments * kColumns;
  }

  static std::int64_t shared_bytes(std::int64_t inputs) {
    const std::int64_t steps = steps_of(static_cast<int>(inputs)), row = tile_stride(static_cast<int>(steps) * kStep);
    return 2 * (kRows * row + (kTransposed ? kWidth * row : steps * kStep * tile_stride(kWidth))) +
           static_cast<std::int64_t>(kSums);
  }
};

// A block's operands in shared memory, and the sums of parts but the first.
template <typename Divided>
struct Tiles {
  std::uint16_t *rows, *weight;
  float4* sums;
  int steps, row_stride;

  __device__ Tiles(unsigned char* memory, int inputs)
      : steps(steps_of(inputs)), row_stride(tile_stride(steps * kStep)) {
    sums = reinterpret_cast<float4*>(memory);
    rows = reinterpret_cast<std::uint16_t*>(memory + Divided::kSums);
    weight = rows + Divided::kRows * row_stride;
  }

  // The first `count` of kAll rows of `from`, of so many inputs; zeros after them. A warp takes every kWarps-th.
  template <int kAll>
  __device__ void ask_rows(std::uint16_t* to, Rows<const __half> from, int count, int inputs) const {
    const int warp = static_cast<int>(threadIdx.x) / kWarpSize, lane = lane_index();
    const __half* source = from[warp] + lane * kTileVector;
    std::uint16_t* target = to + warp * row_stride + lane * kTileVector;
    const std::int64_t next = kWarps * from.stride;
#pragma unroll 1
    for (int c = lane * kTileVector; c < steps * kStep; c += kWarpSize * kTileVector) {
#pragma unroll
      for (int i = 0; i < kAll / kWarps; ++i)
        copy_or_clear(target + i * kWarps * row_stride, source + i * next, warp + i * kWarps < count && c < inputs);
      source += kWarpSize * kTileVector;
      target += kWarpSize * kTileVector;
    }
  }
  __device__ void ask_weight(const Operands& a, int first) const {
    constexpr int kWidth = Divided::kWidth, kVectors = kWidth / kTileVector, kAtOnce = kThreads / kVectors;
    const int columns = min(kWidth, a.outputs - first);
    if constexpr (Divided::kTransposed) {
      ask_rows<kWidth>(weight, {a.weight[first], a.weight.stride}, columns, a.inputs);
    } else {
      const int row = static_cast<int>(threadIdx.x) / kVectors,
                c = static_cast<int>(threadIdx.x) % kVectors * kTileVector;
      if (row >= kAtOnce) return;
      const __half* source = a.weight[row] + first + c;
      std::uint16_t* target = weight + row * tile_stride(kWidth) + c;
#pragma unroll 4
      for (int r = row; r < steps * kStep; r += kAtOnce) {
        copy_or_clear(target, source, r < a.inputs && c < columns);
        source += kAtOnce * a.weight.stride;
        target += kAtOnce * tile_stride(kWidth);
      }
    }
  }

  // d = the warp's rows times its columns, of its part of the inputs.
  __device__ void multiply(float (&d)[kFragments][4], const Divided& mine) const {
    const int lane = lane_index();
    const std::uint16_t* a_row = rows + (mine.row + lane % kWarpRows) * row_stride + lane / kWarpRows * kTileVector;
#pragma unroll
    for (auto& fragment : d) fragment[0] = fragment[1] = fragment[2] = fragment[3] = 0;
#pragma unroll 2
    for (int step = mine.part; step < steps; step += Divided::kParts) {
      std::uint32_t a[2][4], b[kFragments][4];
      ldmatrix_x4(a[0], a_row + step * kStep);
      ldmatrix_x4(a[1], a_row + step * kStep + kStep / 2);
#pragma unroll
      for (int n = 0; n < kFragments; ++n) {
        const int column = mine.column + n * kColumns;
        if constexpr (Divided::kTransposed)
          ldmatrix_x4(b[n], weight + (column + lane % 8) * row_stride + step * kStep + lane / 8 * kTileVector);
        else
          ldmatrix_x4_trans(b[n], weight + (step * kStep + lane) * tile_stride(Divided::kWidth) + column);
      }
#pragma unroll
      for (int k = 0; k < 2; ++k)
#pragma unroll
        for (int n = 0; n < kFragments; ++n) mma_m16n8k16(d[n], a[k], b[n][2 * k], b[n][2 * k + 1]);
    }
  }

  // Adds the other parts' d to those of the first, in order; true in its warps, whose d is then whole. All threads
  // call.
  __device__ bool add_parts(float (&d)[kFragments][4], const Divided& mine) const {
    if constexpr (Divided::kParts == 1) return true;
    float4* of_tile = sums + mine.tile * kFragments * kWarpSize + lane_index();
    constexpr int kPart = Divided::kTiles * kFragments * kWarpSize;
    if (mine.part > 0) {
#pragma unroll
      for (int n = 0; n < kFragments; ++n)
        of_tile[(mine.part - 1) * kPart + n * kWarpSize] = make_float4(d[n][0], d[n][1], d[n][2], d[n][3]);
    }
    __syncthreads();
    if (mine.part > 0) return false;
#pragma unroll
    for (int part = 0; part + 1 < Divided::kParts; ++part)
#pragma unroll
      for (int n = 0; n < kFragments; ++n) {
        const float4 more = of_tile[part * kPart + n * kWarpSize];
        d[n][0] += more.x, d[n][1] += more.y, d[n][2] += more.z, d[n][3] += more.w;
      }
    return true;
  }
};

// A pair of columns that the calling lane has in each of a warp's fragments, and its rows.
struct LanePlaces {
  int first_row, first_column, rows, outputs;

  template <typename Divided>
  __device__ LanePlaces(const Divided& mine, const Operands& a)
      : first_row(static_cast<int>(blockIdx.x) * Divided::kRows + mine.row + lane_index() / 4),
        first_column(static_cast<int>(blockIdx.y) * Divided::kWidth + mine.column + lane_index() % 4 * 2),
        rows(a.rows),
        outputs(a.outputs) {}
  __device__ int row(int half) const { return first_row + 8 * half; }

  // Calls visit(fragment, column) for each pair of columns that exists.
  template <typename Visit>
  __device__ void for_columns(const Visit& visit) const {
#pragma unroll
    for (int n = 0; n < kFragments; ++n)
      if (const int column = first_column + n * kColumns; column < outputs) visit(n, column);
  }
  // Calls visit(half, row, fragment, column) for each pair that exists, of a row of either half of the fragments.
  template <typename Visit>
  __device__ void for_pairs(const Visit& visit) const {
#pragma unroll
    for (int half = 0; half < 2; ++half)
      if (row(half) < rows) for_columns([&](int n, int column) { visit(half, row(half), n, column); });
  }
};

// Pairs of elements, as they lie in memory.
__device__ inline std::uint32_t& pair_at(__half* at) {
  return *reinterpret_cast<std::uint32_t*>(at);
}
__device__ inline std::uint32_t pair_at(const __half* at) {
  return *reinterpret_cast<const std::uint32_t*>(at);
}

// `Finish` says what becomes of the sums. Its Lane is made before the grid before this one is done, of weights alone;
// its ask(), of other operands, after that; and its write() ends the warps that have the sums.
template <typename Divided, typename Finish>
__global__ void __launch_bounds__(kThreads) few_rows_kernel(Operands a, Finish finish) {
  if (!code_can_await()) return __trap();  // serves() says no there, so the rest need not be compiled
  EMBER_DYNAMIC_SHARED(memory);
  const int block_row = static_cast<int>(blockIdx.x) * Divided::kRows,
            block_column = static_cast<int>(blockIdx.y) * Divided::kWidth;
  const Tiles<Divided> tiles(memory, a.inputs);
  const Divided mine;
  const LanePlaces places(mine, a);
  tiles.ask_weight(a, block_column);
  typename Finish::Lane lane(finish, places);
  await_previous_grid();
  tiles.template ask_rows<Divided::kRows>(tiles.rows, {a.in[block_row], a.in.stride}, a.rows - block_row, a.inputs);
  if (mine.part == 0) lane.ask(finish, places);
  await_copies();
  __syncthreads();
  float d[kFragments][4];
  tiles.multiply(d, mine);
  if (tiles.add_parts(d, mine)) lane.write(finish, places, d);
}

template <int kByRows, int kByColumns>
struct Warps {};

template <typename Divided>
dim3 grid_of(const FewRowsProduct& p) {
  return {blocks_for(p.out.rows, Divided::kRows), blocks_for(p.out.cols, Divided::kWidth)};
}

// Whether all blocks of a product run at once, by their shared memory, and no more than `most` on a multiprocessor.
template <typename Divided>
bool at_once(const FewRowsProduct& p, const DeviceInfo& device, std::int64_t most = kTogether) {
  constexpr std::int64_t kReserved = 1024;  // bytes that the device takes for itself beside each block's
  const dim3 grid = grid_of<Divided>(p);
  const std::int64_t room = static_cast<std::int64_t>(device.shared_memory) + kReserved;
  const std::int64_t together = std::min(room / (Divided::shared_bytes(p.in.cols) + kReserved), most);
  return std::int64_t{grid.x} * grid.y <= together * device.multiprocessors;
}

// Calls use(division) of the table above.
template <typename Use>
auto with_division(const FewRowsProduct& p, const DeviceInfo& device, const Use& use) {
  const auto with = [&]<int kByRows, int kByColumns>(Warps<kByRows, kByColumns>) {
    return p.transposed ? use(std::type_identity<Division<kByRows, kByColumns, true>>{})
                        : use(std::type_identity<Division<kByRows, kByColumns, false>>{});
  };
  const auto fits = [&]<int kByRows, int kByColumns>(Warps<kByRows, kByColumns>, std::int64_t most) {
    return p.transposed ? at_once<Division<kByRows, kByColumns, true>>(p, device, most)
                        : at_once<Division<kByRows, kByColumns, false>>(p, device, most);
  };
  if (p.out.rows <= kWarpRows) return with(Warps<1, 1>{});
  if (p.in.cols > kManyInputs) return fits(Warps<1, 2>{}, kTogether) ? with(Warps<1, 2>{}) : with(Warps<2, 2>{});
  return fits(Warps<2, 1>{}, 1) ? with(Warps<2, 1>{}) : with(Warps<2, 4>{});
}

// Launches the kernel for products of this kind, whose weight is transposed or not. Requires serves().
template <bool kTransposed, typename Finish>
void launch_few_rows(const char* name, const FewRowsProduct& p, const Finish& finish, const Launch& on) {
  const Operands a{rows_of<const __half>(p.in), rows_of<const __half>(p.weight), static_cast<int>(p.out.rows),
                   static_cast<int>(p.out.cols), static_cast<int>(p.in.cols)};
  with_division(p, on.device, [&]<typename Divided>(std::type_identity<Divided>) {
    if constexpr (Divided::kTransposed == kTransposed)
      launch(on.start, name, on.stream, grid_of<Divided>(p), dim3(kThreads),
             static_cast<std::size_t>(Divided::shared_bytes(p.in.cols)), few_rows_kernel<Divided, Finish>, a, finish);
  });
}

}  // namespace ember::few_rows
