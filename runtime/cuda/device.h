// Choosing the GPU.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace ember {

struct DeviceInfo {
  int index = 0;
  std::string name;          // "Tesla T4"
  int major = 0, minor = 0;  // compute capability
  std::size_t l2_cache = 0;  // bytes
  int multiprocessors = 0;
  std::size_t shared_memory = 0;  // bytes that a block may ask for
};

// The oldest compute capability that the kernels run on: Turing.
inline constexpr int kOldestMajor = 7, kOldestMinor = 5;

// Makes the device "cuda" (the first) or "cuda:N" current for this thread and returns what it is. Error in one line
// when the name is neither, there is no driver, device or N-th device, the driver is too old for the CUDA version that
// Ember was built with, the device is too old for the kernels, or it cannot be used now.
DeviceInfo use_device(std::string_view name);

// Whether use_device("cuda") finds a device, for programs that can do without. Where a driver is there, but is too old
// or does not start, or the device is too old, `fault` says so in a clause; else it is empty.
bool device_present(std::string& fault);

// When a grid's blocks may come to the multiprocessors: when the grid before it is done, or while it ends.
enum class GridStart { after, early };

// Whether launch_early (runtime/cuda/launch.h) starts grids early; of the process. Not before it is allowed.
bool starts_early() noexcept;
// Allows it, if the device can, in recordings too: compute capability 9.0, and CUDA 12.3 in program and driver.
// `code_can_await`: whether the code of all kernels that launch_early is given can, as it was loaded on this device.
void allow_early_starts(const DeviceInfo& device, bool code_can_await);

}  // namespace ember
