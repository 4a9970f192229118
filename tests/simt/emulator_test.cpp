// The emulator computes what CUDA defines, under every schedule: coordinates, barriers, collectives, atomics, memory.
#include <cmath>
#include <numeric>

#include "tests/simt/emulator_support.h"

namespace ember {
namespace {

using testing::DeviceArray;
using testing::run;
using testing::under_every_schedule;

__global__ void coordinates(int* out) {
  const unsigned threads = blockDim.x * blockDim.y * blockDim.z;
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  out[block * threads + thread] = static_cast<int>(block * threads + thread);
}

TEST(Emulator, EveryThreadOfEveryBlockRunsOnce) {
  under_every_schedule([] {
    const DeviceArray<int> out(2 * 3 * 4 * 5 * 6 * 7);
    run(dim3(2, 3, 4), dim3(5, 6, 7), coordinates, out.data());
    std::vector<int> expected(2 * 3 * 4 * 5 * 6 * 7);
    std::iota(expected.begin(), expected.end(), 0);
    EXPECT_EQ(out.values(), expected);
  });
}

// Each round all threads rotate the array through each other's places.
__global__ void rotate(int* data, int rounds) {
  EMBER_SHARED(int, s, 1024);
  const unsigned t = threadIdx.x;
  int mine = data[t];
  for (int i = 0; i < rounds; ++i) {
    s[t] = mine;
    __syncthreads();
    mine = s[(t + 1) % blockDim.x];
    __syncthreads();
  }
  data[t] = mine;
}

TEST(Emulator, BarriersOrderManyRounds) {
  under_every_schedule([] {
    for (const int threads : {1, 31, 33, 257, 1024}) {
      std::vector<int> values(static_cast<std::size_t>(threads));
      std::iota(values.begin(), values.end(), 0);
      const DeviceArray<int> data(values);
      run(1, static_cast<unsigned>(threads), rotate, data.data(), 5);
      for (int i = 0; i < threads; ++i)
        EXPECT_EQ(data.values()[static_cast<std::size_t>(i)], (i + 5) % threads) << threads;
    }
  });
}

// Each group of W warps rotates its part of the array, one group more often than the one before it.
template <int W>
__global__ void rotate_in_groups(int* data) {
  EMBER_SHARED(int, s, 1024);
  const int t = static_cast<int>(threadIdx.x), group = t / (32 * W), lane = t % (32 * W);
  int mine = data[t];
  for (int i = 0; i <= group; ++i) {
    s[t] = mine;
    barrier_of_warps<15, W>(group);
    mine = s[group * 32 * W + (lane + 1) % (32 * W)];
    barrier_of_warps<15, W>(group);
  }
  __syncthreads();
  s[t] = mine;
  __syncthreads();
  data[t] = s[static_cast<int>(blockDim.x) - 1 - t];
}

template <int W>
void expect_rotated_groups(int groups) {
  const int size = 32 * W, threads = groups * size;
  std::vector<int> values(static_cast<std::size_t>(threads));
  std::iota(values.begin(), values.end(), 0);
  const DeviceArray<int> data(values);
  run(1, static_cast<unsigned>(threads), rotate_in_groups<W>, data.data());
  for (int t = 0; t < threads; ++t) {
    const int from = threads - 1 - t, group = from / size;
    EXPECT_EQ(data.values()[static_cast<std::size_t>(t)], group * size + (from % size + group + 1) % size) << W;
  }
}

TEST(Emulator, BarriersOfWarpsOrderEachGroupByItself) {
  under_every_schedule([] {
    expect_rotated_groups<1>(15);
    expect_rotated_groups<2>(5);
    expect_rotated_groups<4>(2);
    expect_rotated_groups<8>(4);
  });
}

// One row of 32 per collective.
__global__ void collectives(int* out) {
  const int lane = static_cast<int>(threadIdx.x);
  const unsigned all = ~0u;
  int* row = out + lane;
  int r = 0;
  const auto put = [&](int value) { row[32 * r++] = value; };
  put(__shfl_sync(all, lane, 5));
  put(__shfl_sync(all, lane, lane + 1));
  put(__shfl_sync(all, lane, 3, 8));
  put(__shfl_xor_sync(all, lane, 9));
  put(__shfl_xor_sync(all, lane, 16, 16));
  put(__shfl_up_sync(all, lane, 3));
  put(__shfl_down_sync(all, lane, 3));
  put(__shfl_up_sync(all, lane, 1, 4));
  put(__shfl_down_sync(all, lane, 1, 4));
  put(static_cast<int>(__ballot_sync(all, lane % 3 == 0)));
  put(__any_sync(all, lane == 7) + 2 * __any_sync(all, 0));
  put(__all_sync(all, lane < 32) + 2 * __all_sync(all, lane != 7));
  put(static_cast<int>(2 * __shfl_xor_sync(all, 0.5 * lane, 1)));
  put(static_cast<int>(__half2float(__shfl_down_sync(all, __float2half(static_cast<float>(lane)), 16))));
}

int expected_collective(int row, int lane) {
  const int segment = lane & ~3;
  switch (row) {
    case 0:
      return 5;
    case 1:
      return (lane + 1) % 32;
    case 2:
      return (lane & ~7) + 3;
    case 3:
      return lane ^ 9;
    case 4:
      return lane >= 16 ? lane ^ 16 : lane;  // beyond the segment: its own
    case 5:
      return lane < 3 ? lane : lane - 3;
    case 6:
      return lane > 28 ? lane : lane + 3;
    case 7:
      return std::max(lane - 1, segment);
    case 8:
      return std::min(lane + 1, segment + 3);
    case 9:
      return 0x49249249;
    case 10:
    case 11:
      return 1;
    case 12:
      return lane ^ 1;
    default:
      return lane >= 16 ? lane : lane + 16;
  }
}

TEST(Emulator, CollectivesOfAWholeWarp) {
  under_every_schedule([] {
    constexpr int kRows = 14;
    const DeviceArray<int> out(32 * kRows);
    run(1, 32, collectives, out.data());
    const auto values = out.values();
    for (int row = 0; row < kRows; ++row)
      for (int lane = 0; lane < 32; ++lane)
        EXPECT_EQ(values[static_cast<std::size_t>(32 * row + lane)], expected_collective(row, lane))
            << "row " << row << " lane " << lane;
  });
}

// Four groups of lanes go round as often as their number says, each with collectives of its own mask; group 3 has none.
__global__ void groups(int* out) {
  EMBER_SHARED(int, s, 32);
  const int lane = static_cast<int>(threadIdx.x), group = lane % 4;
  const unsigned mask = 0x11111111u << group;
  int sum = lane;
  if (group != 3)
    for (int round = 0; round <= group; ++round) {
      for (int offset = 4; offset < 32; offset *= 2) sum += __shfl_xor_sync(mask, sum, offset);
      s[lane] = sum;
      __syncwarp(mask);
      sum = s[(lane + 4) % 32] + static_cast<int>(__ballot_sync(mask, lane < 16) >> group);
      __syncwarp(mask);
    }
  __syncwarp();
  out[lane] = sum;
}

TEST(Emulator, SeveralMasksOfOneWarpAtOnce) {
  under_every_schedule([] {
    const DeviceArray<int> out(32);
    run(1, 32, groups, out.data());
    const auto values = out.values();
    for (int lane = 0; lane < 32; ++lane) {
      const int group = lane % 4, first = 8 * group + 4 * 28;  // the sum of the group's lanes
      int expected = group == 3 ? lane : first + 0x1111;
      for (int round = 1; round <= group && group != 3; ++round) expected = 8 * expected + 0x1111;
      EXPECT_EQ(values[static_cast<std::size_t>(lane)], expected) << lane;
    }
  });
}

__global__ void last_warp(int* out) {
  const int t = static_cast<int>(threadIdx.x);
  out[t] = static_cast<int>(__ballot_sync(~0u, 1));
  if (t == 39) return;
  __syncthreads();
  if (t >= 32) out[t] += __shfl_sync(0x7F, t, 6);
}

TEST(Emulator, APartialLastWarpAndAThreadThatEnds) {
  under_every_schedule([] {
    const DeviceArray<int> out(40);
    run(1, 40, last_warp, out.data());
    for (int t = 0; t < 40; ++t)
      EXPECT_EQ(out.values()[static_cast<std::size_t>(t)], t < 32 ? -1 : t < 39 ? 255 + 38 : 255) << t;
  });
}

__global__ void count(int* total, unsigned* highest, float* sum, unsigned long long* wide, int* turns) {
  EMBER_SHARED(int, local, 1);
  if (threadIdx.x == 0) local[0] = 0;
  __syncthreads();
  atomicAdd(&local[0], 1);
  __syncthreads();
  if (threadIdx.x == 0) atomicAdd(total, local[0]);
  atomicMax(highest, 1000 * blockIdx.x + threadIdx.x);
  atomicAdd(sum, 0.5f);
  atomicAdd(wide, 1ull << 32);
  if (threadIdx.x == 0) {
    __threadfence();
    atomicExch(&turns[blockIdx.x], atomicCAS(&turns[blockIdx.x], 0, 7) + 1);
  }
}

// What nvcc would refuse, on machines without it too.
template <typename T>
constexpr bool has_atomic_max = requires(T* address, T value) {
  atomicMax(address, value);
};
template <typename T>
constexpr bool has_atomic_add = requires(T* address, T value) {
  atomicAdd(address, value);
};
static_assert(has_atomic_max<unsigned> && !has_atomic_max<float>);
static_assert(has_atomic_add<double> && !has_atomic_add<std::int64_t>);

TEST(Emulator, Atomics) {
  under_every_schedule([] {
    const DeviceArray<int> total(std::vector<int>{0}), turns(std::vector<int>(5));
    const DeviceArray<unsigned> highest(std::vector<unsigned>{0});
    const DeviceArray<float> sum(std::vector<float>{0});
    const DeviceArray<unsigned long long> wide(std::vector<unsigned long long>{0});
    run(5, 100, count, total.data(), highest.data(), sum.data(), wide.data(), turns.data());
    EXPECT_EQ(total.values()[0], 500);
    EXPECT_EQ(highest.values()[0], 4099u);
    EXPECT_EQ(sum.values()[0], 250.0f);
    EXPECT_EQ(wide.values()[0], 500ull << 32);
    EXPECT_EQ(turns.values(), std::vector<int>(5, 1));
  });
}

__global__ void read_before_write(const float* global, float* out) {
  EMBER_SHARED(float, fixed, 8);
  EMBER_DYNAMIC_SHARED(dynamic);
  out[0] = fixed[3];
  out[1] = reinterpret_cast<const float*>(dynamic)[2];
  out[2] = global[1];
  out[3] = 1;
}

TEST(Emulator, MemoryThatNobodyWroteIsNotANumber) {
  const DeviceArray<float> global(2), out(4);
  const Stream stream;
  for (int i = 0; i < 2; ++i) {
    launch("read_before_write", stream, 1, 1, 12, read_before_write, global.data(), out.data());
    const auto values = out.values();
    EXPECT_TRUE(std::isnan(values[0]) && std::isnan(values[1]) && std::isnan(values[2]));
    EXPECT_EQ(values[3], 1.0f);
  }
}

__global__ void two_arrays(float* out) {
  EMBER_SHARED(float, a, 4);
  EMBER_SHARED(__half, b, 3);
  const unsigned t = threadIdx.x;
  a[t] = static_cast<float>(t + 10 * blockIdx.x);
  if (t < 3) b[t] = __float2half(-static_cast<float>(t));
  __syncthreads();
  out[4 * blockIdx.x + t] = a[3 - t] + __half2float(b[t % 3]);
}

TEST(Emulator, EachDeclarationOfSharedMemoryIsItsOwn) {
  under_every_schedule([] {
    const DeviceArray<float> out(8);
    run(2, 4, two_arrays, out.data());
    EXPECT_EQ(out.values(), (std::vector<float>{3, 1, -1, 0, 13, 11, 9, 10}));
  });
}

}  // namespace
}  // namespace ember
