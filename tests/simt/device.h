// The device that the emulator pretends to be, which a test may change: an older one, one with little memory, one that
// fails.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

namespace simt {

struct Device {
  int count = 1;  // how many there are, all alike
  int major = 9, minor = 0;
  std::size_t memory = std::size_t{16} << 30;
  int driver_version = CUDART_VERSION;  // 0: no driver
  // Every call of the runtime that reaches the device gives this from now on; a lost device gives cudaErrorUnknown.
  cudaError_t fault = cudaSuccess;
};

Device& device();

// Device memory that is allocated now, in bytes.
std::size_t memory_in_use();

}  // namespace simt
