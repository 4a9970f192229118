// The device that the emulator pretends to be, which a test may change: an older one, one with little memory, one that
// fails. With EMBER_SIMT_DEVICE=7.5 in the environment it is a T4 from the start, which starts no grid early; 9.0 is
// what it is anyway.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

namespace simt {

struct Device {
  int count = 1;  // how many there are, all alike
  int major = 9, minor = 0;
  int multiprocessors = 32;
  std::size_t memory = std::size_t{16} << 30;
  // The shared memory that a block may have with cudaFuncSetAttribute: that of sm_90 and of sm_75.
  std::size_t most_shared() const { return std::size_t{major >= 9 ? 227u : 64u} << 10; }
  int driver_version = CUDART_VERSION;  // 0: no driver
  // Every call of the runtime that reaches the device gives this from now on; a lost device gives cudaErrorUnknown.
  cudaError_t fault = cudaSuccess;
};

Device& device();

// Device memory that is allocated now, in bytes.
std::size_t memory_in_use();

}  // namespace simt
