// What the emulator's own tests share: arrays on the device, a launch that is waited for, and which sanitizers are on.
#pragma once

#include <gtest/gtest.h>

#include <string_view>
#include <utility>
#include <vector>

#include "runtime/cuda/launch.h"
#include "runtime/cuda/memory.h"
#include "runtime/cuda/stream.h"
#include "simt/schedule.h"

namespace ember::testing {

// Whether this build has the sanitizer "address", "undefined" or "thread".
constexpr bool sanitizer(std::string_view name) {
  return std::string_view(EMBER_SANITIZE).find(name) != std::string_view::npos;
}

// Waits for all streams.
inline void finish() {
  check_cuda(cudaDeviceSynchronize(), "waiting for the device");
}

// A program may have the DeviceArray of tests/cuda/cuda_support.h too, in other files, and the linker must not take the
// functions of one for those of the other.
inline namespace emulator {

template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(std::size_t size) : size_(size), memory_(device_buffer(size * sizeof(T))) {}
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    check_cuda(cudaMemcpyAsync(data(), values.data(), size_ * sizeof(T), cudaMemcpyHostToDevice, stream_), "copying");
    stream_.synchronize();
  }
  T* data() const { return static_cast<T*>(memory_.data()); }
  // After all that any stream was given.
  std::vector<T> values() const {
    finish();
    std::vector<T> out(size_);
    check_cuda(cudaMemcpyAsync(out.data(), data(), size_ * sizeof(T), cudaMemcpyDeviceToHost, stream_), "copying");
    stream_.synchronize();
    return out;
  }

 private:
  std::size_t size_;
  Stream stream_;
  Buffer memory_;
};

}  // namespace emulator

template <typename... Parameters, typename... Arguments>
void run(dim3 grid, dim3 block, void (*kernel)(Parameters...), Arguments&&... arguments) {
  const Stream stream;
  launch("kernel", stream, grid, block, 0, kernel, std::forward<Arguments>(arguments)...);
  stream.synchronize();
}

// Calls `body` under first in first out, last in first out and five random schedules.
template <typename Body>
void under_every_schedule(Body body) {
  const simt::Schedule before = simt::schedule();
  for (const simt::Schedule schedule : {simt::Schedule{simt::Order::fifo, 0}, simt::Schedule{simt::Order::lifo, 0},
                                        simt::Schedule{simt::Order::random, 1}, simt::Schedule{simt::Order::random, 2},
                                        simt::Schedule{simt::Order::random, 3}, simt::Schedule{simt::Order::random, 4},
                                        simt::Schedule{simt::Order::random, 5}}) {
    simt::set_schedule(schedule);
    body();
  }
  simt::set_schedule(before);
}

// For a defect that one sanitizer alone can see: says so and skips where it is not on.
#define EMBER_NEEDS_SANITIZER(name) \
  if (!::ember::testing::sanitizer(name)) GTEST_SKIP() << "only the " name " sanitizer sees this, and it is not on"

// The statement dies of a data race that TSan reports.
#define EMBER_EXPECT_RACE(statement) EXPECT_EXIT(statement, ::testing::ExitedWithCode(66), "data race")

}  // namespace ember::testing
