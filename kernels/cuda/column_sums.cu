// The second stage of column sums (column_sums.cuh).
//
// Block (32, kGroups): a thread row adds every kGroups-th part of 32 columns, then the first row adds what the others
// have. Grid (columns / 32, S). Reads 4 bytes a part, sum and column; one addition each.
#include "kernels/cuda/column_sums.cuh"
#include "runtime/cuda/launch.h"

namespace ember {
namespace {

constexpr int kGroups = 8;

// No array: a subscript that is no constant would put it into local memory.
struct Targets {
  float *first, *second, *third;
};

__global__ void __launch_bounds__(kWarpSize* kGroups)
    add_parts_kernel(Targets targets, const float* parts, int count, int cols, int stride) {
  EMBER_SHARED(float, group_sums, kGroups* kWarpSize);
  const int c = static_cast<int>(blockIdx.x) * kWarpSize + static_cast<int>(threadIdx.x);
  const int group = static_cast<int>(threadIdx.y);
  float total = 0;
  if (c < cols)
    for (int p = group; p < count; p += kGroups)
      total += parts[(static_cast<std::int64_t>(p) * gridDim.y + blockIdx.y) * stride + c];
  group_sums[group * kWarpSize + threadIdx.x] = total;
  __syncthreads();
  if (group != 0 || c >= cols) return;
  for (int g = 1; g < kGroups; ++g) total += group_sums[g * kWarpSize + threadIdx.x];
  (blockIdx.y == 0 ? targets.first : blockIdx.y == 1 ? targets.second : targets.third)[c] = total;
}

}  // namespace

void add_parts(cudaStream_t stream, std::span<const Tensor> sums, const void* parts, std::int64_t count) {
  const std::int64_t cols = sums[0].cols;
  if (cols == 0) return;
  const auto target = [&](std::size_t s) { return s < sums.size() ? sums[s].f32() : nullptr; };
  launch("add_parts", stream, dim3(blocks_for(cols, kWarpSize), static_cast<unsigned>(sums.size())),
         dim3(kWarpSize, kGroups), 0, add_parts_kernel, Targets{target(0), target(1), target(2)},
         static_cast<const float*>(parts), static_cast<int>(count), static_cast<int>(cols),
         static_cast<int>(part_stride(cols)));
}

}  // namespace ember
