// Threads that do not meet where they must, in barriers, collectives and matrix instructions, each planted in a kernel
// and reported; and a barrier of some warps that is missing.
#include <numeric>
#include <string>
#include <vector>

#include "tests/simt/emulator_support.h"

namespace ember {
namespace {

using testing::DeviceArray;
using testing::run;
using testing::sanitizer;

__global__ void some_threads_wait(int) {
  if (threadIdx.x < 40)
    __syncthreads();
  else
    __syncwarp();
}

__global__ void two_barriers(int) {
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncthreads();
}

__global__ void half_a_warp_shuffles(int) {
  if (threadIdx.x < 16) __shfl_xor_sync(~0u, 1, 1);
  __syncthreads();
}

__global__ void half_a_warp_ends(int) {
  if (threadIdx.x < 16) return;
  __shfl_xor_sync(~0u, 1, 1);
}

__global__ void ends_while_awaited(int) {
  if (threadIdx.x != 31) __ballot_sync(~0u, 1);
}

__global__ void different_collectives(int) {
  if (threadIdx.x < 16)
    __ballot_sync(~0u, 1);
  else
    __syncwarp();
}

__global__ void mask_without_the_caller(int) {
  __syncwarp(0xFFFF);
}

__global__ void source_beyond_the_mask(int) {
  if (threadIdx.x < 16) __shfl_sync(0xFFFF, 1, 16);
}

__global__ void ldmatrix_in_half_a_warp(int) {
  EMBER_SHARED(__half, s, 64);
  std::uint32_t r[4];
  ldmatrix_x4(r, s);
}

__global__ void products_in_two_branches(int) {
  float d[4] = {};
  if (threadIdx.x < 16)
    mma_m16n8k8(d, {0, 0}, 0);
  else
    mma_m16n8k8(d, {0, 0}, 0);
}

__global__ void groups_wait(int id, int warps, int more_by_group) {
  const int group = static_cast<int>(threadIdx.x) / 64;
  simt::barrier_of_warps(id + group, warps + more_by_group * group, simt::Place::current());
}

__global__ void more_groups_than_said(int) {
  barrier_of_warps<1, 2>(static_cast<int>(threadIdx.x) / 64);
}

// The second group waits at the first one's barrier.
__global__ void groups_share_a_barrier(int warps, int more) {
  const int group = static_cast<int>(threadIdx.x) / 64;
  simt::barrier_of_warps(1, warps + more * group, simt::Place::current());
}

TEST(PlantedDivergence, AtBarriersOfWarpsIsReported) {
  testing::under_every_schedule([] { run(1, 128, groups_wait, 14, 2, 0); });
  EXPECT_DEATH(run(1, 128, groups_wait, 0, 2, 0), "has no barrier 0 at .*planted_divergence_test.cpp:[0-9]+");
  EXPECT_DEATH(run(1, 128, groups_wait, 15, 2, 0), "has no barrier 16");
  EXPECT_DEATH(run(1, 128, more_groups_than_said, 0), "has no barrier 0");
  EXPECT_DEATH(run(1, 128, groups_wait, 1, 3, 0), "deadlock.*\n.*threads 0 to 127 wait in barrier_of_warps at");
  EXPECT_DEATH(run(1, 128, groups_wait, 1, 2, 1), "deadlock");
  EXPECT_DEATH(run(1, 128, groups_share_a_barrier, 3, 1), "barrier 1 is for [34] warps and for [34]");
  EXPECT_DEATH({ testing::under_every_schedule([] { run(1, 128, groups_share_a_barrier, 2, 0); }); },
               "more warps than it is for are in barrier_of_warps at .*planted_divergence_test.cpp:[0-9]+");
}

TEST(PlantedDivergence, IsReportedWithItsPlace) {
  const auto file = [](const char* what) { return std::string(what) + ".*planted_divergence_test.cpp:[0-9]+"; };
  EXPECT_DEATH(run(1, 64, some_threads_wait, 0), "deadlock");
  EXPECT_DEATH(run(1, 64, some_threads_wait, 0), file("threads 0 to 39 wait in __syncthreads at"));
  EXPECT_DEATH(run(1, 64, two_barriers, 0), file("different barriers"));
  EXPECT_DEATH(run(1, 32, half_a_warp_shuffles, 0), "deadlock");
  // Who comes first, those who end or those who wait, is the schedule's choice.
  constexpr const char* kEnded = "names lanes 0x[0-9a-f]+, which have ended|a thread ends while lanes of its warp wait";
  EXPECT_DEATH(run(1, 32, half_a_warp_ends, 0), kEnded);
  EXPECT_DEATH(run(1, 32, ends_while_awaited, 0), kEnded);
  EXPECT_DEATH(run(1, 32, different_collectives, 0), file("in different collectives"));
  EXPECT_DEATH(run(1, 32, products_in_two_branches, 0), file("at different calls of mma.m16n8k8"));
  EXPECT_DEATH(run(1, 32, mask_without_the_caller, 0), "does not name it");
  EXPECT_DEATH(run(1, 32, source_beyond_the_mask, 0), "reads from lane 16, which the mask does not name");
  EXPECT_DEATH(run(1, 16, ldmatrix_in_half_a_warp, 0), "needs all 32 lanes");
}

// Two groups of two warps each turn their part of `data` around.
template <bool kBarrier>
__global__ void turn_around(int* data) {
  EMBER_SHARED(int, s, 128);
  const int t = static_cast<int>(threadIdx.x), group = t / 64;
  s[t] = data[t];
  if (kBarrier) barrier_of_warps<2, 2>(group);
  data[t] = s[group * 64 + 63 - t % 64];
}

template <bool kBarrier>
int wrong_turns() {
  int wrong = 0;
  testing::under_every_schedule([&] {
    std::vector<int> values(128), turned(128);
    std::iota(values.begin(), values.end(), 0);
    for (int i = 0; i < 128; ++i) turned[static_cast<std::size_t>(i)] = i / 64 * 64 + 63 - i % 64;
    const DeviceArray<int> data(values);
    run(1, 128, turn_around<kBarrier>, data.data());
    wrong += data.values() != turned;
  });
  return wrong;
}

TEST(PlantedDivergence, MissingBarrierOfWarps) {
  EXPECT_EQ(wrong_turns<true>(), 0);
  if (sanitizer("thread")) {
    EMBER_EXPECT_RACE(wrong_turns<false>());
  } else {
    EXPECT_GE(wrong_turns<false>(), 6);
  }
}

}  // namespace
}  // namespace ember
