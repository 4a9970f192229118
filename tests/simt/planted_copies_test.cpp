// Defects of asynchronous copies, each planted in a kernel and found: used before they are awaited, read by others
// without a barrier, into what is still read, never awaited, misaligned, from what is not device memory.
#include <cmath>
#include <numeric>
#include <vector>

#include "tests/simt/emulator_support.h"

namespace ember {
namespace {

using testing::DeviceArray;
using testing::run;
using testing::sanitizer;

enum class CopyBug { none, not_awaited, no_barrier, misaligned, misaligned_source, source_overrun, source_in_shared };

// out = in, by another thread than the one that copies.
template <CopyBug kBug>
__global__ void copy_through_shared(const float* in, float* out) {
  EMBER_SHARED(float, tile, 4 * 64 + 4);
  const int t = static_cast<int>(threadIdx.x), other = 63 - t;
  const float* from = in + 4 * t;
  if (kBug == CopyBug::misaligned_source) from += 1;
  if (kBug == CopyBug::source_in_shared) from = tile;
  begin_copy(tile + 4 * t + (kBug == CopyBug::misaligned), from);
  if (kBug == CopyBug::not_awaited) __syncthreads();
  const float early = tile[4 * t];
  await_copies();
  if (kBug != CopyBug::no_barrier) __syncthreads();
  for (int i = 0; i < 4; ++i) out[4 * other + i] = kBug == CopyBug::not_awaited ? early : tile[4 * other + i];
}

template <CopyBug kBug>
bool copies_right() {
  std::vector<float> values(256);
  std::iota(values.begin(), values.end(), 1.0f);
  std::vector<float> given = values;
  if (kBug == CopyBug::source_overrun) given.resize(254);
  const DeviceArray<float> in(given), out(256);
  const Stream stream;
  launch("copy", stream, 1, 64, 0, copy_through_shared<kBug>, in.data(), out.data());
  return out.values() == values;
}

TEST(PlantedCopyBug, CopiesThatAreUsedTooEarly) {
  EXPECT_TRUE(copies_right<CopyBug::none>());
  EXPECT_FALSE(copies_right<CopyBug::not_awaited>());
  EXPECT_DEATH(copies_right<CopyBug::misaligned>(), "begin_copy of a row whose address is not a multiple of 16");
}

TEST(PlantedCopyBug, CopiesFromWhereNoneMayComeFrom) {
  EXPECT_DEATH(copies_right<CopyBug::misaligned_source>(), "begin_copy from an address that is not a multiple of 16");
  EXPECT_DEATH(copies_right<CopyBug::source_overrun>(), "not within one block of device memory at .*planted_copies");
  EXPECT_DEATH(copies_right<CopyBug::source_in_shared>(), "not within one block of device memory");
}

TEST(PlantedCopyBug, CopiesThatOthersReadWithoutABarrier) {
  int wrong = 0;
  const auto count = [&wrong] {
    testing::under_every_schedule([&] { wrong += !copies_right<CopyBug::no_barrier>(); });
  };
  if (sanitizer("thread")) {
    EMBER_EXPECT_RACE(count());
  } else {
    count();
    EXPECT_GE(wrong, 6);
  }
}

enum class GroupBug { none, one_too_few, in_no_group };

// out[0], out[1] = the first values of two copies, the first of which is awaited and read while the second is under
// way.
template <GroupBug kBug>
__global__ void copy_in_groups(const float* in, float* out) {
  EMBER_SHARED(float, tile, 8);
  begin_copy(tile, in);
  commit_copies();
  begin_copy(tile + 4, in + 4);
  if (kBug != GroupBug::in_no_group) commit_copies();
  await_copies_but<kBug == GroupBug::in_no_group ? 0 : 1>();
  out[0] = tile[0];
  await_copies_but<kBug == GroupBug::one_too_few ? 1 : 0>();
  out[1] = tile[4];
  await_copies();
}

template <GroupBug kBug>
std::vector<float> first_values() {
  const DeviceArray<float> in(std::vector<float>{1, 1, 1, 1, 2, 2, 2, 2}), out(2);
  const Stream stream;
  launch("copy", stream, 1, 1, 0, copy_in_groups<kBug>, in.data(), out.data());
  return out.values();
}

TEST(PlantedCopyBug, GroupsOfCopiesThatAreUsedTooEarly) {
  EXPECT_EQ(first_values<GroupBug::none>(), (std::vector<float>{1, 2}));
  for (const std::vector<float>& values :
       {first_values<GroupBug::one_too_few>(), first_values<GroupBug::in_no_group>()}) {
    EXPECT_EQ(values[0], 1);
    EXPECT_TRUE(std::isnan(values[1]));
  }
}

// A tile that is used again: out[0] = the first value, which the second copy must not replace before it was read.
template <bool kBarrier>
__global__ void copy_twice(const float* in, float* out) {
  EMBER_SHARED(float, tile, 4);
  if (threadIdx.x == 0) begin_copy(tile, in);
  await_copies();
  __syncthreads();
  const float first = threadIdx.x == 1 ? tile[0] : 0;
  if (kBarrier) __syncthreads();
  if (threadIdx.x == 0) begin_copy(tile, in + 4);
  const float late = threadIdx.x == 1 && !kBarrier ? tile[0] : first;
  __syncthreads();
  await_copies();
  if (threadIdx.x == 1) out[0] = late;
}

template <bool kBarrier>
bool first_value_kept() {
  const DeviceArray<float> in(std::vector<float>{1, 1, 1, 1, 2, 2, 2, 2}), out(1);
  const Stream stream;
  launch("copy", stream, 1, 64, 0, copy_twice<kBarrier>, in.data(), out.data());
  return out.values() == std::vector<float>{1};
}

TEST(PlantedCopyBug, CopiesIntoATileThatIsStillRead) {
  EXPECT_TRUE(first_value_kept<true>());
  if (sanitizer("thread")) {
    EMBER_EXPECT_RACE(first_value_kept<false>());
  } else {
    int wrong = 0;
    testing::under_every_schedule([&] { wrong += !first_value_kept<false>(); });
    EXPECT_GE(wrong, 1);
  }
}

__global__ void copy_and_leave(const float* in) {
  EMBER_SHARED(float, tile, 4);
  begin_copy(tile, in);
}

TEST(PlantedCopyBug, CopiesThatAreNeverAwaited) {
  const DeviceArray<float> in(4);
  EXPECT_DEATH(testing::run(1, 1, copy_and_leave, in.data()), "ended without await_copies");
}

}  // namespace
}  // namespace ember
