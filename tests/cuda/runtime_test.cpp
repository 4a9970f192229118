// The owners of runtime/cuda: streams, events, graphs and memory, on whatever device there is.
#include <gtest/gtest.h>

#include <stdexcept>
#include <type_traits>
#include <vector>

#include "runtime/cuda/device.h"
#include "runtime/cuda/event.h"
#include "runtime/cuda/graph.h"
#include "runtime/cuda/launch.h"
#include "runtime/cuda/memory.h"
#include "runtime/cuda/nvtx.h"
#include "runtime/cuda/side_stream.h"
#include "runtime/error.h"
#include "tests/support.h"

namespace ember {
namespace {

template <typename T>
constexpr bool kMovesOnly =
    std::is_nothrow_move_constructible_v<T>&& std::is_nothrow_move_assignable_v<T> && !std::is_copy_constructible_v<T>;
static_assert(kMovesOnly<Stream> && kMovesOnly<Event> && kMovesOnly<Graph> && kMovesOnly<Buffer>);

__global__ void add(int* values, int count, int what) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < count) values[i] += what;
}

constexpr int kCount = 1000;
constexpr std::size_t kBytes = kCount * sizeof(int);

class CudaRuntime : public ::testing::Test {
 protected:
  void SetUp() override {
    use_device("cuda");
    check_cuda(cudaMemsetAsync(values_.data(), 0, kBytes, stream_), "clearing");
  }
  int* values() const { return static_cast<int*>(values_.data()); }
  void add_on_device(int what) { launch("add", stream_, 8, 128, 0, add, values(), kCount, what); }
  // The value that all elements have; fails when they differ.
  int value() {
    check_cuda(cudaMemcpyAsync(pinned_.data(), values_.data(), kBytes, cudaMemcpyDeviceToHost, stream_), "copying");
    stream_.synchronize();
    const int* all = static_cast<const int*>(pinned_.data());
    for (int i = 1; i < kCount; ++i) EXPECT_EQ(all[i], all[0]) << i;
    return all[0];
  }

  Stream stream_;
  Buffer values_ = device_buffer(kBytes), pinned_ = pinned_buffer(kBytes);
};

TEST_F(CudaRuntime, LaunchesInOrder) {
  const ProfiledRange range("LaunchesInOrder");
  add_on_device(1);
  add_on_device(2);
  EXPECT_EQ(value(), 3);
}

TEST_F(CudaRuntime, AGraphRepeatsWhatItRecorded) {
  const Graph graph(stream_, [&] {
    add_on_device(1);
    add_on_device(10);
  });
  EXPECT_EQ(value(), 0) << "recording ran something";
  for (int i = 0; i < 3; ++i) graph.launch(stream_);
  EXPECT_EQ(value(), 33);
  Graph moved;
  EXPECT_FALSE(moved);
  moved = Graph(stream_, [&] { add_on_device(100); });
  moved.launch(stream_);
  EXPECT_EQ(value(), 133);
}

TEST_F(CudaRuntime, AFailedRecordingLeavesTheStreamUsable) {
  EXPECT_THROW(Graph(stream_,
                     [&] {
                       add_on_device(1);
                       throw std::runtime_error("stop");
                     }),
               std::runtime_error);
  EXPECT_EQ(value(), 0);
  EXPECT_THROW(Graph(stream_, [&] { stream_.synchronize(); }), std::logic_error);
  add_on_device(1);
  EXPECT_EQ(value(), 1);
}

TEST_F(CudaRuntime, ASideStreamRunsBetweenItsBeginAndItsJoin) {
  const SideStream side{};
  const Buffer aside = device_buffer(kBytes);
  const auto work = [&] {
    add_on_device(1);
    const Stream& other = side.begin(stream_);
    check_cuda(cudaMemcpyAsync(aside.data(), values(), kBytes, cudaMemcpyDeviceToDevice, other), "copying");
    launch("add", other, 8, 128, 0, add, static_cast<int*>(aside.data()), kCount, 10);
    side.join(stream_);
    check_cuda(cudaMemcpyAsync(values(), aside.data(), kBytes, cudaMemcpyDeviceToDevice, stream_), "copying");
    add_on_device(100);
  };
  work();
  EXPECT_EQ(value(), 111);
  const Graph graph(stream_, work);
  EXPECT_EQ(value(), 111) << "recording ran something";
  for (int i = 0; i < 2; ++i) graph.launch(stream_);
  EXPECT_EQ(value(), 333);
}

TEST_F(CudaRuntime, ASideStreamThatIsNotJoinedMakesNoGraph) {
  const SideStream side{};
  EXPECT_THROW(Graph(stream_, [&] { launch("add", side.begin(stream_), 8, 128, 0, add, values(), kCount, 1); }),
               std::logic_error);
  add_on_device(1);
  EXPECT_EQ(value(), 1);
  side.begin(stream_).synchronize();
}

TEST_F(CudaRuntime, EventsOrderAndTime) {
  const Stream other;
  const Event start(Event::Kind::timing), end(Event::Kind::timing), ready;
  start.record(stream_);
  add_on_device(1);
  ready.record(stream_);
  ready.block(other);
  launch("add", other, 8, 128, 0, add, values(), kCount, 1);
  other.synchronize();
  EXPECT_EQ(value(), 2);
  end.record(stream_);
  end.synchronize();
  EXPECT_GE(Event::milliseconds(start, end), 0.0f);
}

TEST_F(CudaRuntime, NothingIsAllocatedForNothing) {
  EXPECT_EQ(device_buffer(0).data(), nullptr);
  EXPECT_EQ(pinned_buffer(0).data(), nullptr);
}

TEST_F(CudaRuntime, AWrongLaunchIsADefectWithTheKernelsName) {
  try {
    launch("add of too much", stream_, 1, 2000, 0, add, values(), kCount, 1);
    FAIL() << "2000 threads were accepted";
  } catch (const std::logic_error& error) {
    EXPECT_NE(std::string(error.what()).find("add of too much"), std::string::npos) << error.what();
  }
  add_on_device(1);
  EXPECT_EQ(value(), 1) << "the error stayed behind";
}

TEST_F(CudaRuntime, TooMuchMemoryIsOneClearLine) {
  EXPECT_CONTAINS(testing::error_of([] { device_buffer(std::size_t{1} << 50); }),
                  "out of device memory: 1073741825 MiB");
}

TEST_F(CudaRuntime, NamesOfDevices) {
  EXPECT_EQ(use_device("cuda:0").index, 0);
  EXPECT_FALSE(use_device("cuda").name.empty());
  for (const char* name : {"", "gpu", "cuda:", "cuda0", "cuda:-1", "cuda:1x", "cuda:99", "cuda:99999999999", "CUDA"})
    EXPECT_THROW(use_device(name), Error) << name;
}

}  // namespace
}  // namespace ember
