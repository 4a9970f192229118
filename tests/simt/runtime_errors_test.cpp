// What the user reads when the device is missing, too old, full or lost.
#include <gtest/gtest.h>

#include <thread>

#include "kernels/kernels.h"
#include "runtime/cuda/device.h"
#include "runtime/error.h"
#include "simt/device.h"
#include "tests/simt/emulator_support.h"
#include "tests/support.h"

namespace ember {
namespace {

// The device that a test changed is itself again afterwards.
class RuntimeErrors : public ::testing::Test {
 protected:
  void TearDown() override {
    simt::device() = {};
    cudaGetLastError();  // of what was released from a lost one
  }
  template <typename Body>
  static void expect_error(const std::string& part, Body body) {
    const std::string message = testing::error_of(body);
    EXPECT_CONTAINS(message, part);
    EXPECT_EQ(message.find('\n'), std::string::npos);
    EXPECT_EQ(cudaGetLastError(), cudaSuccess) << "left behind for the next call";
  }
};

TEST_F(RuntimeErrors, NoDriverNoDeviceOrTooFew) {
  simt::device().driver_version = 0;
  expect_error("no NVIDIA driver is installed", [] { use_device("cuda"); });
  simt::device().driver_version = 11080;
  expect_error("the NVIDIA driver is for CUDA 11.8", [] { use_device("cuda"); });
  simt::device() = {};
  simt::device().count = 0;
  expect_error("no CUDA device was found; use --device cpu", [] { use_device("cuda:1"); });
  simt::device().count = 2;
  EXPECT_EQ(use_device("cuda:1").index, 1);
  expect_error("--device cuda:2: there are 2 CUDA devices", [] { use_device("cuda:2"); });
}

TEST_F(RuntimeErrors, WhetherADeviceIsPresent) {
  std::string fault = "one";
  EXPECT_TRUE(cuda_device_present(fault));
  EXPECT_EQ(fault, "");
  const auto expect_absent = [&fault](const std::string& part) {
    EXPECT_FALSE(cuda_device_present(fault));
    EXPECT_EQ(cudaGetLastError(), cudaSuccess) << "left behind for the next call";
    EXPECT_EQ(fault.empty(), part.empty()) << fault;
    EXPECT_CONTAINS(fault, part);
    simt::device() = {};
  };
  simt::device().driver_version = 0;
  expect_absent("");
  simt::device().count = 0;
  expect_absent("");
  simt::device().driver_version = 11080;
  expect_absent("the NVIDIA driver is for CUDA 11.8, and this program was built with CUDA");
  simt::device().major = 6;
  expect_absent("SIMT emulator has compute capability 6.0; 7.5 (Turing) or newer is needed");
  simt::device().fault = cudaErrorUnknown;
  expect_absent("CUDA does not start: cudaErrorUnknown");
}

TEST_F(RuntimeErrors, TheKernelsAreThoseOfTheDeviceThatIsNamed) {
  simt::device().count = 2;
  EXPECT_NO_THROW(make_cuda_kernels("cuda:1"));
  expect_error("--device cuda:2: there are 2 CUDA devices", [] { make_cuda_kernels("cuda:2"); });
  simt::device().major = 8, simt::device().minor = 6;
  EXPECT_TRUE(make_cuda_kernels("cuda:1")->device_name().ends_with(" (sm_86)"));
}

// A thread that was not told has the first device and no error of another's.
TEST_F(RuntimeErrors, EachThreadHasADeviceAndAnErrorOfItsOwn) {
  simt::device().count = 2;
  use_device("cuda:1");
  EXPECT_EQ(cudaSetDevice(2), cudaErrorInvalidDevice);
  std::jthread([] {
    int index = -1;
    EXPECT_EQ(cudaGetDevice(&index), cudaSuccess);
    EXPECT_EQ(index, 0);
    EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  }).join();
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidDevice);
}

TEST_F(RuntimeErrors, ADeviceThatIsTooOld) {
  simt::device().major = 7;
  expect_error("compute capability 7.0; 7.5 (Turing) or newer is needed; use --device cpu", [] { use_device("cuda"); });
  simt::device().major = 9;
  EXPECT_EQ(use_device("cuda").major, 9);
}

TEST_F(RuntimeErrors, GridsStartEarlyWhereTheDeviceTheDriverAndTheCodeCan) {
  constexpr bool kNewEnough = CUDART_VERSION >= 12030;
  allow_early_starts(use_device("cuda"), true);
  EXPECT_EQ(starts_early(), kNewEnough);
  allow_early_starts(use_device("cuda"), false);
  EXPECT_FALSE(starts_early()) << "code for an older device";
  make_cuda_kernels("cuda");
  EXPECT_EQ(starts_early(), kNewEnough) << "theirs is for this one";
  simt::device().major = 8;
  allow_early_starts(use_device("cuda"), true);
  EXPECT_FALSE(starts_early());
}

TEST_F(RuntimeErrors, NoMemoryLeft) {
  simt::device().memory = 3 << 20;
  const std::size_t before = simt::memory_in_use();
  {
    const Buffer one = device_buffer(2 << 20);
    expect_error("out of device memory: 3 MiB were asked for, 1 of 3 MiB are free", [] { device_buffer(2 << 20); });
    EXPECT_EQ(simt::memory_in_use(), before + (2 << 20));
  }
  EXPECT_EQ(simt::memory_in_use(), before);
  const Buffer two = device_buffer(2 << 20);
}

__global__ void nothing(int) {}

TEST_F(RuntimeErrors, ALostDevice) {
  const Stream stream;
  const Buffer buffer = device_buffer(8);
  simt::device().fault = cudaErrorUnknown;
  expect_error("waiting for the device", [&] { stream.synchronize(); });
  expect_error("nothing", [&] { launch("nothing", stream, 1, 1, 0, nothing, 0); });
  expect_error("cuda", [] { use_device("cuda"); });
  // The owners above are released without a word from their destructors that could end the program.
}

TEST_F(RuntimeErrors, CodeForOtherDevices) {
  const Stream stream;
  simt::device().fault = cudaErrorNoKernelImageForDevice;
  expect_error("build with -DCMAKE_CUDA_ARCHITECTURES for this GPU",
               [&] { launch("nothing", stream, 1, 1, 0, nothing, 0); });
}

// By the call that meets it, not once more by every owner.
TEST_F(RuntimeErrors, ALostDeviceIsToldOnce) {
  const std::string after_a_call = testing::stderr_of([] {
    const Stream stream;
    const Buffer one = device_buffer(8), other = device_buffer(8), pinned = pinned_buffer(8);
    simt::device().fault = cudaErrorUnknown;
    expect_error("waiting for the device", [&] { stream.synchronize(); });
  });
  EXPECT_EQ(after_a_call, "");
  simt::device().fault = cudaSuccess;
  const std::string without_one = testing::stderr_of([] {
    const Buffer one = device_buffer(8), other = device_buffer(8);
    simt::device().fault = cudaErrorIllegalAddress;
  });
  EXPECT_EQ(without_one, "CUDA: releasing memory: cudaErrorIllegalAddress\n");
}

// Nor what a copy's memory held before.
TEST_F(RuntimeErrors, ALostDeviceGivesNothingBack) {
  const auto kernels = make_cuda_kernels("cuda");
  const Buffer number = kernels->allocate(sizeof(int));
  const auto readback = kernels->make_readback(sizeof(int));
  readback->start(number.data());
  simt::device().fault = cudaErrorUnknown;
  expect_error("looking at an event", [&] { readback->ready(); });
  expect_error("looking at an event", [&] { readback->wait(); });
  simt::device().fault = cudaSuccess;
}

TEST_F(RuntimeErrors, WrongUseIsADefect) {
  const Stream stream;
  const Buffer device = device_buffer(8);
  std::vector<char> host(16);
  const auto copy = [&](void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
    check_cuda(cudaMemcpyAsync(to, from, bytes, kind, stream), "copying");
  };
  copy(device.data(), host.data(), 8, cudaMemcpyHostToDevice);
  EXPECT_THROW(copy(device.data(), host.data(), 9, cudaMemcpyHostToDevice), std::logic_error);
  EXPECT_THROW(copy(device.data(), host.data(), 8, cudaMemcpyDeviceToHost), std::logic_error);
  EXPECT_THROW(copy(host.data() + 8, host.data(), 8, cudaMemcpyDeviceToHost), std::logic_error);
  EXPECT_THROW(check_cuda(cudaMemsetAsync(host.data(), 0, 8, stream), "clearing"), std::logic_error);
  EXPECT_THROW(check_cuda(cudaFree(host.data()), "freeing"), std::logic_error);
  EXPECT_THROW(launch("nothing", nullptr, 1, 1, 0, nothing, 0), std::logic_error) << "the default stream";
  struct Shape {
    dim3 grid, block;
  };
  const auto launch_of = [&](const Shape& shape) { launch("nothing", stream, shape.grid, shape.block, 0, nothing, 0); };
  for (const Shape& largest : {Shape{1, 1024}, Shape{1, {1, 1024}}, Shape{1, {1, 1, 64}}, Shape{70000, 1}})
    EXPECT_NO_THROW(launch_of(largest));
  for (const Shape& beyond : {Shape{0, 1}, Shape{1, 0}, Shape{1, 1025}, Shape{1, {32, 33}}, Shape{1, {1, 1, 65}},
                              Shape{{1, 65536}, 1}, Shape{{1, 1, 65536}, 1}, Shape{0x80000000u, 1}})
    EXPECT_THROW(launch_of(beyond), std::logic_error);
  stream.synchronize();
}

}  // namespace
}  // namespace ember
