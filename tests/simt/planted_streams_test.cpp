// A host that is ahead of its streams, and streams that are beside each other, without the wait that they need: planted
// and found, by TSan or by a value that is not the same under every schedule.
#include <gtest/gtest.h>

#include <functional>
#include <set>

#include "runtime/cuda/event.h"
#include "runtime/cuda/graph.h"
#include "runtime/cuda/side_stream.h"
#include "simt/device.h"
#include "tests/simt/emulator_support.h"

namespace ember {
namespace {

using testing::DeviceArray;

__global__ void add_to(int* x, int n) {
  *x += n;
}

__global__ void triple(int* x) {
  *x *= 3;
}

enum class Wait { none, before_it, for_it, until_seen };

// An integer on the device, 1 at first, and page-locked memory for another, which is 0.
class PlantedStreams : public ::testing::Test {
 protected:
  PlantedStreams() { *host() = 0; }

  int* host() const { return static_cast<int*>(pinned_.data()); }
  void add(const Stream& stream, int n) const { launch("add_to", stream, 1, 1, 0, add_to, x_.data(), n); }
  void copy(void* to, const void* from, cudaMemcpyKind kind) const {
    check_cuda(cudaMemcpyAsync(to, from, sizeof(int), kind, stream_), "copying");
  }
  void read_back() const { copy(host(), x_.data(), cudaMemcpyDeviceToHost); }

  void wait(Wait what, const Event& before, const Event& after) const {
    if (what == Wait::before_it) before.synchronize();
    if (what == Wait::for_it) after.synchronize();
    while (what == Wait::until_seen && !after.happened()) {
    }
  }

  // What `run` gives under every schedule, from the same state.
  std::set<int> results(const std::function<int()>& run) const {
    std::set<int> results;
    testing::under_every_schedule([&] {
      const int one = 1;
      copy(x_.data(), &one, cudaMemcpyHostToDevice);
      testing::finish();
      *host() = 0;
      results.insert(run());
      testing::finish();
    });
    return results;
  }

  // By the values that it gives, or as a race.
  void expect_found(const std::function<int()>& wrong, std::set<int> values) const {
    if (testing::sanitizer("thread")) {
      EMBER_EXPECT_RACE(results(wrong));
    } else {
      EXPECT_EQ(results(wrong), values);
    }
  }

  const Stream stream_;
  const DeviceArray<int> x_{std::vector<int>{1}};
  const Buffer pinned_ = pinned_buffer(sizeof(int));
};

TEST_F(PlantedStreams, ReadsOfWhatIsStillToBeCopied) {
  const Event before, after;
  const auto read = [&](Wait what) {
    return [&, what] {
      before.record(stream_);
      add(stream_, 6);
      read_back();
      after.record(stream_);
      wait(what, before, after);
      return *host();
    };
  };
  for (const Wait enough : {Wait::for_it, Wait::until_seen}) EXPECT_EQ(results(read(enough)), std::set<int>{7});
  for (const Wait too_little : {Wait::none, Wait::before_it}) expect_found(read(too_little), {0, 7});
}

TEST_F(PlantedStreams, WritesToWhatIsStillToBeCopied) {
  const Event before, after;
  const auto overwrite = [&](Wait what) {
    return [&, what] {
      *host() = 20;
      before.record(stream_);
      copy(x_.data(), host(), cudaMemcpyHostToDevice);
      after.record(stream_);
      wait(what, before, after);
      *host() = 30;
      return x_.values()[0];
    };
  };
  EXPECT_EQ(results(overwrite(Wait::for_it)), std::set<int>{20});
  for (const Wait too_little : {Wait::none, Wait::before_it}) expect_found(overwrite(too_little), {20, 30});
}

// Memory that is not page-locked has been read when the call returns, or written.
TEST_F(PlantedStreams, OrdinaryMemoryNeedsNoWait) {
  const auto run = [&] {
    int value = 20;
    copy(x_.data(), &value, cudaMemcpyHostToDevice);
    value = 30;
    add(stream_, 1);
    copy(&value, x_.data(), cudaMemcpyDeviceToHost);
    return value;
  };
  EXPECT_EQ(results(run), std::set<int>{21});
}

// (1 + 1) * 3 + 10 where the adding waits for the tripling in a stream beside it; recorded or not.
TEST_F(PlantedStreams, StreamsBesideEachOther) {
  const SideStream side{};
  const auto work = [&](bool waits) {
    add(stream_, 1);
    launch("triple", side.begin(stream_), 1, 1, 0, triple, x_.data());
    if (waits) side.join(stream_);
    add(stream_, 10);
    if (!waits) side.join(stream_);
  };
  const auto run = [&](bool waits) {
    return [&, waits] {
      work(waits);
      return x_.values()[0];
    };
  };
  const Graph right(stream_, [&] { work(true); }), wrong(stream_, [&] { work(false); });
  const auto launch_graph = [&](const Graph& graph) {
    return [&] {
      graph.launch(stream_);
      return x_.values()[0];
    };
  };
  EXPECT_EQ(results(run(true)), std::set<int>{16});
  EXPECT_EQ(results(launch_graph(right)), std::set<int>{16});
  expect_found(run(false), {16, 36});
  expect_found(launch_graph(wrong), {16, 36});
}

// The stream's own order holds beyond a graph; a stream beside must wait for a graph as for a kernel.
TEST_F(PlantedStreams, AGraphBetweenOthers) {
  const SideStream side{};
  const Graph graph(stream_, [&] {
    launch("triple", stream_, 1, 1, 0, triple, x_.data());
    add(stream_, 1);
  });
  const auto run = [&](bool waits) {
    return [&, waits] {
      add(stream_, 1);
      const Stream* beside = &side.begin(stream_);
      graph.launch(stream_);
      if (waits) beside = &side.begin(stream_);
      add(*beside, 10);
      side.join(stream_);
      add(stream_, 100);
      return x_.values()[0];
    };
  };
  EXPECT_EQ(results(run(true)), std::set<int>{117});
  expect_found(run(false), {117, 137});
}

TEST_F(PlantedStreams, AnEventOfARecordingHasNoTime) {
  const Event event;
  const Graph graph(stream_, [&] {
    add(stream_, 1);
    event.record(stream_);
  });
  graph.launch(stream_);
  EXPECT_THROW(event.synchronize(), std::logic_error);
  EXPECT_THROW(static_cast<void>(event.happened()), std::logic_error);
  event.record(stream_);
  event.synchronize();
  EXPECT_TRUE(event.happened());
}

// What neither waits for the stream that is recorded nor allocates for it, either; and who overlooks the error has no
// recording.
TEST_F(PlantedStreams, ARecordingThatAllocatesOrWaitsIsSpoilt) {
  const Stream other;
  const Event event;
  event.record(other);
  void* memory = nullptr;
  const std::function<void()> forbidden[] = {
      [&] { stream_.synchronize(); }, [&] { other.synchronize(); },
      [&] { event.synchronize(); },   [&] { static_cast<void>(event.happened()); },
      [&] { event.block(stream_); },  [] { device_buffer(4); },
      [] { pinned_buffer(4); },       [&] { check_cuda(cudaFreeHost(memory), "releasing"); }};
  const auto record = [&](const std::function<void()>& call) {
    ASSERT_EQ(cudaMallocHost(&memory, 4), cudaSuccess);
    EXPECT_THROW(Graph(stream_,
                       [&] {
                         add(stream_, 1);
                         EXPECT_THROW(call(), std::logic_error);
                         EXPECT_THROW(add(stream_, 1), std::logic_error) << "in what is spoilt";
                       }),
                 std::logic_error);
    EXPECT_EQ(cudaFreeHost(memory), cudaSuccess) << "once it has ended";
  };
  for (const auto& call : forbidden) record(call);
  EXPECT_NO_THROW(Graph(stream_, [&] { add(stream_, 1); }));
}

TEST_F(PlantedStreams, AnEventOfAnEarlierRecordingIsNoneToWaitFor) {
  const Stream other;
  const Event event;
  const Graph graph(stream_, [&] {
    add(stream_, 1);
    event.record(stream_);
  });
  EXPECT_THROW(event.block(other), std::logic_error);
  EXPECT_THROW(Graph(other, [&] { event.block(other); }), std::logic_error);
}

// That a stream was joined in one recording says nothing of the next.
TEST_F(PlantedStreams, AForkThatTheNextRecordingDoesNotJoin) {
  const SideStream side{};
  const auto fork = [&](bool join) {
    add(stream_, 1);
    side.begin(stream_);
    if (join) side.join(stream_);
  };
  EXPECT_NO_THROW(Graph(stream_, [&] { fork(true); }));
  EXPECT_THROW(Graph(stream_, [&] { fork(false); }), std::logic_error);
}

// Kernels write to page-locked memory, and the host looks at it without waiting.
TEST_F(PlantedStreams, TheScheduleSaysHowFarTheHostIsAhead) {
  if (testing::sanitizer("thread")) GTEST_SKIP() << "the host looks at what it has not waited for";
  const simt::Schedule given = simt::schedule();
  const Stream other;
  const Event event;
  const auto add_to_host = [&] { launch("add_to", stream_, 1, 1, 0, add_to, host(), 1); };
  simt::set_schedule({simt::Order::fifo, 0});
  add_to_host();
  EXPECT_EQ(*host(), 1);
  event.record(stream_);
  EXPECT_TRUE(event.happened());
  simt::set_schedule({simt::Order::lifo, 0});
  add_to_host();
  event.record(stream_);
  add_to_host();
  add(other, 1);
  other.synchronize();
  EXPECT_EQ(*host(), 1) << "the host waited for another stream";
  EXPECT_FALSE(event.happened());
  EXPECT_EQ(*host(), 1) << "the host looked";
  EXPECT_TRUE(event.happened()) << "at the second time";
  EXPECT_EQ(*host(), 2) << "what came before the event, and no more";
  device_buffer(4);
  EXPECT_EQ(*host(), 3) << "releasing memory waits for everything";
  simt::set_schedule(given);
}

}  // namespace
}  // namespace ember
