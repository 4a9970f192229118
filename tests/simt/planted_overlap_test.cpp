// Grids that overlap and touch what the other one writes: one that starts early, before it awaits the grid before it,
// and branches of a graph. Planted and found by TSan; the emulator runs one grid after another, so that no value shows
// the first, and one only in some orders the second.
#include <gtest/gtest.h>

#include <algorithm>

#include "runtime/cuda/graph.h"
#include "runtime/cuda/side_stream.h"
#include "simt/device.h"
#include "simt/grid.h"
#include "simt/runtime_state.h"
#include "tests/simt/emulator_support.h"

namespace ember {
namespace {

using testing::DeviceArray;

constexpr int kBlocks = 3, kThreads = 64, kSize = kBlocks * kThreads;

enum class First { wait, read, copy, write };

__global__ void add_one(float* x) {
  await_previous_grid();
  x[blockIdx.x * blockDim.x + threadIdx.x] += 1;
}

// to[i] = from[i]; kFirst: what comes before the rest.
template <First kFirst>
__global__ void copy(const float* from, float* to) {
  EMBER_SHARED(float, tile, 4 * kThreads);
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x, quarter = 4 * (threadIdx.x / 4);
  if (kFirst == First::copy) begin_copy(tile + 4 * threadIdx.x, from + blockIdx.x * blockDim.x + quarter);
  float value = kFirst == First::read ? from[i] : 0;
  if (kFirst == First::write) to[i] = 0;
  await_previous_grid();
  await_copies();
  if (kFirst == First::copy) value = tile[4 * threadIdx.x + threadIdx.x % 4];
  to[i] = kFirst == First::read || kFirst == First::copy ? value : from[i];
}

class PlantedOverlap : public ::testing::Test {
 protected:
  void SetUp() override {
    allow_early_starts(use_device("cuda"), true);
    if (!starts_early()) GTEST_SKIP() << "for devices that start grids early, and a toolkit that can";
  }

  void launch_add(float* x) { launch_early("add", stream_, kBlocks, kThreads, 0, add_one, x); }
  template <First kFirst>
  void launch_copy(const DeviceArray<float>& from, const DeviceArray<float>& to) {
    launch_early("copy", stream_, kBlocks, kThreads, 0, copy<kFirst>, static_cast<const float*>(from.data()),
                 to.data());
  }
  // The second of two grids does `kFirst` to what the first one writes.
  template <First kFirst>
  void add_and_copy() {
    launch_add(x_.data());
    launch_copy<kFirst>(x_, y_);
    stream_.synchronize();
  }
  template <First kFirst>
  void add_and_copy_in_a_graph() {
    const Graph graph(stream_, [&] {
      launch_add(x_.data());
      launch_copy<kFirst>(x_, y_);
    });
    graph.launch(stream_);
    stream_.synchronize();
  }

  const Stream stream_;
  const DeviceArray<float> x_{std::vector<float>(kSize, 1)}, y_{std::vector<float>(kSize, 3)},
      z_{std::vector<float>(kSize, 5)};
};

TEST_F(PlantedOverlap, NoneRaisesNoAlarm) {
  add_and_copy<First::wait>();
  EXPECT_EQ(y_.values(), std::vector<float>(kSize, 2));
  add_and_copy_in_a_graph<First::wait>();
  EXPECT_EQ(y_.values(), std::vector<float>(kSize, 3));
  // What a grid wrote that has ended, since the one in between has awaited it; and what is no grid's.
  launch_add(x_.data());
  launch_add(z_.data());
  launch_copy<First::read>(x_, y_);
  launch_copy<First::copy>(x_, z_);
  EXPECT_EQ(z_.values(), std::vector<float>(kSize, 4));
  launch_copy<First::read>(z_, y_);
  EXPECT_EQ(y_.values(), std::vector<float>(kSize, 4));
}

TEST_F(PlantedOverlap, ReadsOfWhatTheGridBeforeWrites) {
  EMBER_NEEDS_SANITIZER("thread");
  EMBER_EXPECT_RACE(add_and_copy<First::read>());
  EMBER_EXPECT_RACE(add_and_copy_in_a_graph<First::read>());
  EMBER_EXPECT_RACE(add_and_copy<First::copy>());
}

TEST_F(PlantedOverlap, WritesToWhatTheGridBeforeReads) {
  EMBER_NEEDS_SANITIZER("thread");
  const auto copy_back = [&] {
    launch_copy<First::wait>(x_, y_);
    launch_copy<First::write>(z_, x_);
    stream_.synchronize();
  };
  EMBER_EXPECT_RACE(copy_back());
}

__global__ void last_block_reads(const float* from, float* to) {
  const bool last = blockIdx.x == gridDim.x - 1;
  const float early = last ? from[threadIdx.x] : 0;
  await_previous_grid();
  to[blockIdx.x * blockDim.x + threadIdx.x] = last ? early : from[threadIdx.x];
}

// Found in one of as many launches, since each begins with another block.
TEST_F(PlantedOverlap, ReadsByALaterBlock) {
  EMBER_NEEDS_SANITIZER("thread");
  const auto add_and_read = [&] {
    for (int i = 0; i < kBlocks; ++i) {
      launch_add(x_.data());
      launch_early("read", stream_, kBlocks, kThreads, 0, last_block_reads, static_cast<const float*>(x_.data()),
                   y_.data());
    }
    stream_.synchronize();
  };
  EMBER_EXPECT_RACE(add_and_read());
}

// What the branch beside writes the origin's stream reads, once it waits for it; or `early`, before.
void add_beside(const Stream& stream, float* x, float* y, float* z, bool early) {
  const SideStream side{};
  const Graph graph(stream, [&] {
    launch("fork", stream, kBlocks, kThreads, 0, add_one, z);
    launch("beside", side.begin(stream), kBlocks, kThreads, 0, add_one, x);
    launch("main", stream, kBlocks, kThreads, 0, add_one, z);
    if (early) launch("copy", stream, kBlocks, kThreads, 0, copy<First::wait>, static_cast<const float*>(x), y);
    side.join(stream);
    launch("copy", stream, kBlocks, kThreads, 0, copy<First::wait>, static_cast<const float*>(x), y);
  });
  graph.launch(stream);
  stream.synchronize();
}

TEST_F(PlantedOverlap, BranchesOfAGraph) {
  add_beside(stream_, x_.data(), y_.data(), z_.data(), false);
  EXPECT_EQ(y_.values(), std::vector<float>(kSize, 2));
  EXPECT_EQ(z_.values(), std::vector<float>(kSize, 7));
  if (testing::sanitizer("thread")) {
    EMBER_EXPECT_RACE(add_beside(stream_, x_.data(), y_.data(), z_.data(), true));
  }
}

// A copy or a library's product in a branch.
TEST_F(PlantedOverlap, BranchesThatAreNoKernels) {
  EMBER_NEEDS_SANITIZER("thread");
  const auto clear_beside = [&] {
    const SideStream side{};
    const Graph graph(stream_, [&] {
      launch("main", stream_, kBlocks, kThreads, 0, add_one, z_.data());
      check_cuda(cudaMemsetAsync(x_.data(), 0, 4, side.begin(stream_)), "clearing");
      launch("main", stream_, kBlocks, kThreads, 0, add_one, x_.data());
      side.join(stream_);
    });
    graph.launch(stream_);
    stream_.synchronize();
  };
  EMBER_EXPECT_RACE(clear_beside());
}

TEST_F(PlantedOverlap, ReadsOfWhatALibraryWrites) {
  EMBER_NEEDS_SANITIZER("thread");
  const auto multiply = [&] {
    const std::function<void()> write = [x = x_.data()] { std::fill_n(x, kSize, 7.0f); };
    simt::perform(stream_, [write] { simt::run_library(write); });
    launch_copy<First::read>(x_, y_);
    stream_.synchronize();
  };
  EMBER_EXPECT_RACE(multiply());
}

}  // namespace
}  // namespace ember
