// Defects that the emulator is there to find, each planted in a kernel and found: by a wrong value, by the emulator's
// own report, or by a sanitizer. Those that one sanitizer alone can see say so where it is not on.
#include <numeric>

#include "runtime/cuda/event.h"
#include "simt/device.h"
#include "tests/simt/emulator_support.h"

// A race ends the process, so that a death test sees it.
extern "C" const char* __tsan_default_options() {
  return "halt_on_error=1";
}

namespace ember {
namespace {

using testing::DeviceArray;
using testing::run;
using testing::sanitizer;

enum class Bug {
  none,
  no_barrier_before_the_tree,
  no_barrier_in_the_tree,
  no_barrier_at_the_end,
  shared_overrun,
  dynamic_overrun,
  global_overrun,
};

// out = the sum of n values, a tile of 256 at a time.
template <Bug kBug>
__global__ void block_sum(const float* x, float* out, int n) {
  EMBER_SHARED(float, s, 256);
  EMBER_DYNAMIC_SHARED(dynamic);
  const int t = static_cast<int>(threadIdx.x);
  float total = 0;
  for (int base = 0; base < n; base += 256) {
    const int i = base + t;
    float value = i < n ? x[i] : 0.0f;
    if (kBug == Bug::global_overrun && i <= n) value = x[i + 1];
    if (kBug == Bug::dynamic_overrun) reinterpret_cast<float*>(dynamic)[t + 1] = value;
    s[t + (kBug == Bug::shared_overrun)] = value;
    if (kBug != Bug::no_barrier_before_the_tree) __syncthreads();
    for (int offset = 128; offset > 0; offset /= 2) {
      if (t < offset) s[t] += s[t + offset];
      if (kBug != Bug::no_barrier_in_the_tree) __syncthreads();
    }
    total += s[0];
    if (kBug != Bug::no_barrier_at_the_end) __syncthreads();
  }
  if (t == 0) *out = total;
}

template <Bug kBug>
float sum_of_thousand() {
  std::vector<float> values(1000);
  std::iota(values.begin(), values.end(), 1.0f);
  const DeviceArray<float> x(values), out(1);
  const Stream stream;
  launch("block_sum", stream, 1, 256, 256 * sizeof(float), block_sum<kBug>, x.data(), out.data(), 1000);
  return out.values()[0];
}

constexpr float kSum = 500500;

// How many of the seven schedules give a wrong sum.
template <Bug kBug>
int wrong_sums() {
  int wrong = 0;
  testing::under_every_schedule([&] { wrong += sum_of_thousand<kBug>() != kSum; });
  return wrong;
}

TEST(PlantedBug, NoneRaisesNoAlarm) {
  EXPECT_EQ(wrong_sums<Bug::none>(), 0);
}

// As those are run that are expected to: by themselves, after others.
TEST(PlantedBug, NoneRaisesNoAlarmInAProcessOfItsOwn) {
  const auto run_and_leave = [] {
    sum_of_thousand<Bug::none>();
    std::fputs("no alarm", stderr);
    std::_Exit(0);
  };
  EXPECT_EXIT(run_and_leave(), ::testing::ExitedWithCode(0), "no alarm");
}

TEST(PlantedBug, MissingBarrierBeforeATree) {
  if (sanitizer("thread")) {
    EMBER_EXPECT_RACE(wrong_sums<Bug::no_barrier_before_the_tree>());
  } else {
    EXPECT_GE(wrong_sums<Bug::no_barrier_before_the_tree>(), 6);
  }
}

TEST(PlantedBug, MissingBarrierInATree) {
  if (sanitizer("thread")) {
    EMBER_EXPECT_RACE(wrong_sums<Bug::no_barrier_in_the_tree>());
  } else {
    EXPECT_GE(wrong_sums<Bug::no_barrier_in_the_tree>(), 6);
  }
}

TEST(PlantedBug, MissingBarrierThatNoValueShows) {
  EMBER_NEEDS_SANITIZER("thread");
  EMBER_EXPECT_RACE(sum_of_thousand<Bug::no_barrier_at_the_end>());
}

TEST(PlantedBug, OverrunOfASharedArray) {
  if (!sanitizer("undefined")) EMBER_NEEDS_SANITIZER("address");
  EXPECT_DEATH(sum_of_thousand<Bug::shared_overrun>(), "index 256 out of bounds|heap-buffer-overflow");
}

TEST(PlantedBug, OverrunOfDynamicSharedMemory) {
  EMBER_NEEDS_SANITIZER("address");
  EXPECT_DEATH(sum_of_thousand<Bug::dynamic_overrun>(), "heap-buffer-overflow");
}

TEST(PlantedBug, OverrunOfGlobalMemory) {
  EMBER_NEEDS_SANITIZER("address");
  EXPECT_DEATH(sum_of_thousand<Bug::global_overrun>(), "heap-buffer-overflow");
}

__global__ void half_of_the_threads_await() {
  if (threadIdx.x % 2 == 0) await_previous_grid();
}

TEST(PlantedBug, AnEarlyGridThatDoesNotAwait) {
  allow_early_starts(use_device("cuda"), true);
  if (!starts_early()) GTEST_SKIP() << "for devices that start grids early, and a toolkit that can";
  const Stream stream;
  const auto launch_half = [&] {
    launch_early("half", stream, 1, 32, 0, half_of_the_threads_await);
    stream.synchronize();
  };
  EXPECT_DEATH(launch_half(), "without await_previous_grid");
  launch("half", stream, 1, 32, 0, half_of_the_threads_await);
  // Behind a wait for an event no grid starts early, but the one after it.
  const Event event;
  event.record(stream);
  event.block(stream);
  launch_half();
  EXPECT_DEATH(launch_half(), "without await_previous_grid");
}

// A graph keeps the arguments of its launches, and here outlives what they point to.
void launch_a_graph_too_late() {
  const Stream stream;
  const DeviceArray<float> out(1);
  float* x = nullptr;
  check_cuda(cudaMalloc(reinterpret_cast<void**>(&x), 4000), "allocating");
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "capturing");
  launch("block_sum", stream, 1, 256, 1024, block_sum<Bug::none>, x, out.data(), 1000);
  check_cuda(cudaStreamEndCapture(stream, &graph), "capturing");
  check_cuda(cudaGraphInstantiate(&executable, graph, 0), "instantiating");
  check_cuda(cudaFree(x), "freeing");
  cudaGraphLaunch(executable, stream);
  testing::finish();
}

TEST(PlantedBug, UseOfMemoryThatWasFreed) {
  EMBER_NEEDS_SANITIZER("address");
  EXPECT_DEATH(launch_a_graph_too_late(), "heap-use-after-free");
}

// 16 bytes at once from rows of 52 bytes, as a row of head dim 26 has.
__global__ void wide_load(const __half* p, float* out) {
  out[threadIdx.x] = reinterpret_cast<const float4*>(p + 26 * threadIdx.x)->x;
}

TEST(PlantedBug, MisalignedLoad) {
  EMBER_NEEDS_SANITIZER("undefined");
  const DeviceArray<__half> p(26 * 40);
  const DeviceArray<float> out(32);
  EXPECT_DEATH(run(1, 32, wide_load, p.data(), out.data()), "misaligned address");
}

template <bool kWait>
__global__ void transpose(const __half* in, std::uint32_t* out) {
  EMBER_SHARED(__half, s, 64);
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < 64; i += 32) s[i] = in[i];
  if (kWait) __syncwarp();
  std::uint32_t r[4];
  ldmatrix_x4(r, s + lane % 8 * 8);
  out[lane] = r[0];
}

TEST(PlantedBug, MissingSyncwarpBeforeLdmatrix) {
  const DeviceArray<__half> in(std::vector<__half>(64));
  const DeviceArray<std::uint32_t> out(32);
  run(1, 32, transpose<true>, in.data(), out.data());
  EMBER_NEEDS_SANITIZER("thread");
  EMBER_EXPECT_RACE(run(1, 32, transpose<false>, in.data(), out.data()));
}

// Lanes 0 to 15 wait for each other; lane 16 reads what they wrote.
__global__ void reads_beyond_its_mask(int* out) {
  EMBER_SHARED(int, s, 32);
  const int lane = static_cast<int>(threadIdx.x);
  s[lane] = lane;
  __syncwarp(lane < 16 ? 0xFFFFu : 0xFFFF0000u);
  out[lane] = s[lane ^ 16];
}

TEST(PlantedBug, SyncwarpOfTheWrongLanes) {
  EMBER_NEEDS_SANITIZER("thread");
  const DeviceArray<int> out(32);
  EMBER_EXPECT_RACE(run(1, 32, reads_beyond_its_mask, out.data()));
}

// A shuffle is no fence: CUDA promises nothing about memory around it.
__global__ void shuffle_as_fence(int* out) {
  EMBER_SHARED(int, s, 32);
  const int lane = static_cast<int>(threadIdx.x);
  s[lane] = lane;
  const int other = __shfl_xor_sync(~0u, lane, 1);
  out[lane] = s[other];
}

TEST(PlantedBug, ShuffleTakenForAFence) {
  EMBER_NEEDS_SANITIZER("thread");
  const DeviceArray<int> out(32);
  EMBER_EXPECT_RACE(run(1, 32, shuffle_as_fence, out.data()));
}

__global__ void counts_without_atomics(int* total) {
  *total += 1;
}

TEST(PlantedBug, CounterWithoutAtomics) {
  EMBER_NEEDS_SANITIZER("thread");
  const DeviceArray<int> total(std::vector<int>{0});
  EMBER_EXPECT_RACE(run(1, 2, counts_without_atomics, total.data()));
}

TEST(PlantedBug, BlocksThatCountWithoutAtomics) {
  EMBER_NEEDS_SANITIZER("thread");
  const DeviceArray<int> total(std::vector<int>{0});
  EMBER_EXPECT_RACE(run(2, 1, counts_without_atomics, total.data()));
}

enum class Arrival { whole, no_fence_before, no_fence_after, data_after_the_fence, no_barrier_before, no_atomics };

// total = the sum over the blocks of their numbers from 1 on, by the block that arrives last.
template <Arrival kArrival>
__global__ void sum_by_the_last_block(int* parts, unsigned* arrived, int* total) {
  EMBER_SHARED(bool, last, 1);
  const unsigned writer = kArrival == Arrival::no_barrier_before ? 1 : 0;
  const int part = static_cast<int>(blockIdx.x) + 1;
  if (kArrival != Arrival::data_after_the_fence && threadIdx.x == writer) parts[blockIdx.x] = part;
  if (threadIdx.x == 0) {
    if (kArrival != Arrival::no_fence_before) __threadfence();
    if (kArrival == Arrival::data_after_the_fence) parts[blockIdx.x] = part;
    unsigned before = kArrival == Arrival::no_atomics ? *arrived : 0;
    if (kArrival == Arrival::no_atomics)
      *arrived = before + 1;
    else
      before = atomicAdd(arrived, 1u);
    if (kArrival != Arrival::no_fence_after) __threadfence();
    last[0] = before + 1 == gridDim.x;
  }
  __syncthreads();
  if (!last[0] || threadIdx.x != 1) return;
  int sum = 0;
  for (unsigned i = 0; i < gridDim.x; ++i) sum += parts[i];
  *total = sum;
}

template <Arrival kArrival>
void sums_by_the_last_block() {
  testing::under_every_schedule([] {
    const DeviceArray<int> parts(std::vector<int>(5, 0)), total(1);
    const DeviceArray<unsigned> arrived(std::vector<unsigned>{0});
    run(5, 64, sum_by_the_last_block<kArrival>, parts.data(), arrived.data(), total.data());
    EXPECT_EQ(total.values()[0], 15);
  });
}

TEST(PlantedBug, NoneInTheLastBlockRaisesNoAlarm) {
  sums_by_the_last_block<Arrival::whole>();
}

TEST(PlantedBug, TheLastBlockOfSeveral) {
  EMBER_NEEDS_SANITIZER("thread");
  EMBER_EXPECT_RACE(sums_by_the_last_block<Arrival::no_fence_before>());
  EMBER_EXPECT_RACE(sums_by_the_last_block<Arrival::no_fence_after>());
  EMBER_EXPECT_RACE(sums_by_the_last_block<Arrival::data_after_the_fence>());
  EMBER_EXPECT_RACE(sums_by_the_last_block<Arrival::no_barrier_before>());
  EMBER_EXPECT_RACE(sums_by_the_last_block<Arrival::no_atomics>());
}

__global__ void ldmatrix_from(const __half* row, int offset) {
  EMBER_SHARED(__half, s, 128);
  std::uint32_t r[4];
  ldmatrix_x4(r, row != nullptr ? row : s + offset);
}

// A row for each of the first `lanes` lanes, no more.
__global__ void ldmatrix_of_two(int lanes) {
  EMBER_SHARED(__half, s, 16 * 8);
  const int lane = static_cast<int>(threadIdx.x);
  std::uint32_t r[2];
  ldmatrix_x2_trans(r, s + lane % lanes * 8);
}

TEST(PlantedBug, LdmatrixOfTheWrongAddress) {
  const DeviceArray<__half> global(64);
  EXPECT_DEATH(run(1, 32, ldmatrix_from, global.data(), 0), "not within one array of shared memory");
  EXPECT_DEATH(run(1, 32, ldmatrix_from, nullptr, 4), "not a multiple of 16 bytes");
  EXPECT_DEATH(run(1, 32, ldmatrix_from, nullptr, 128), "not within one array of shared memory");
  run(1, 32, ldmatrix_of_two, 16);
  EXPECT_DEATH(run(1, 32, ldmatrix_of_two, 32), "ldmatrix.trans of a row that is not within one array");
}

__global__ void reads(const float* p) {
  static_cast<void>(*p);
}

TEST(PlantedBug, HostMemoryGivenToAKernel) {
  const float here = 1;
  EXPECT_DEATH(run(1, 1, reads, &here), "argument 0 of a kernel is a pointer that the device cannot reach");
}

template <int kBytes>
__global__ void uses_shared(int) {
  EMBER_SHARED(unsigned char, s, kBytes);
  s[0] = 1;
}

__global__ void uses_dynamic(int) {
  EMBER_DYNAMIC_SHARED(s);
  s[0] = 1;
}

TEST(PlantedBug, MoreSharedMemoryThanThereIs) {
  run(1, 1, uses_shared<48 << 10>, 0);
  EXPECT_DEATH(run(1, 1, uses_shared<(48 << 10) + 16>, 0), "49168 bytes of shared memory, the limit is 49152");
  EXPECT_DEATH(run(1, 1, uses_dynamic, 0), "launched without");
  const Stream stream;
  const auto device = simt::device();
  simt::device().major = 9;
  launch("asks for 227 KB", stream, 1, 1, 227 << 10, uses_dynamic, 0);
  stream.synchronize();
  EXPECT_THROW(launch("asks for more", stream, 1, 1, (227 << 10) + 1, uses_dynamic, 0), std::logic_error);
  simt::device().major = 7;
  launch("asks for 64 KB", stream, 1, 1, 64 << 10, uses_dynamic, 0);
  stream.synchronize();
  EXPECT_THROW(launch("asks for more", stream, 1, 1, (64 << 10) + 1, uses_dynamic, 0), std::logic_error);
  const auto both = +[](int) {
    EMBER_SHARED(unsigned char, s, 16);
    EMBER_DYNAMIC_SHARED(d);
    s[0] = d[0] = 1;
  };
  const auto launch_both = [&] {
    launch("both", stream, 1, 1, 64 << 10, both, 0);
    stream.synchronize();
  };
  EXPECT_DEATH(launch_both(), "the limit is 65536");
  simt::device() = device;
  cudaLaunchConfig_t config{};
  config.gridDim = config.blockDim = 1;
  config.stream = stream;
  config.dynamicSmemBytes = (48 << 10) + 1;
  const auto unasked = +[](int) {
    EMBER_DYNAMIC_SHARED(d);
    d[0] = 1;
  };
  EXPECT_EQ(cudaLaunchKernelEx(&config, unasked, 0), cudaErrorInvalidValue);
  cudaGetLastError();
}

TEST(PlantedBug, ALimitOfSharedMemoryThatIsLoweredUnderARecordingIsReported) {
  const Stream stream;
  const auto uses = +[](int) {
    EMBER_DYNAMIC_SHARED(d);
    d[0] = 1;
  };
  launch("with more", stream, 1, 1, 60 << 10, uses, 0);
  launch("with less", stream, 1, 1, 50 << 10, uses, 0);  // which leaves the limit alone
  cudaFuncAttributes now{};
  ASSERT_EQ(cudaFuncGetAttributes(&now, reinterpret_cast<const void*>(uses)), cudaSuccess);
  EXPECT_EQ(now.maxDynamicSharedSizeBytes, 60 << 10);
  ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  launch("recorded", stream, 1, 1, 60 << 10, uses, 0);
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t recorded = nullptr;
  ASSERT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  ASSERT_EQ(cudaGraphInstantiate(&recorded, graph, 0), cudaSuccess);
  const auto launch_recorded = [&] {
    EXPECT_EQ(cudaGraphLaunch(recorded, stream), cudaSuccess);
    stream.synchronize();
  };
  launch_recorded();
  ASSERT_EQ(
      cudaFuncSetAttribute(reinterpret_cast<const void*>(uses), cudaFuncAttributeMaxDynamicSharedMemorySize, 50 << 10),
      cudaSuccess);
  EXPECT_DEATH(launch_recorded(),
               "a recorded launch has 61440 bytes of shared memory, its kernel is now allowed 51200");
  cudaGraphExecDestroy(recorded);
  cudaGraphDestroy(graph);
}

}  // namespace
}  // namespace ember
