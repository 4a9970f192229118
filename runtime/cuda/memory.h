// Memory on the device, and host memory that the device copies from without help of the processor.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "runtime/arena.h"

namespace ember {

// Uninitialised memory on the current device, aligned to 256 bytes. Error naming the size, and how much is free, when
// there is not enough. Empty for 0 bytes.
Buffer device_buffer(std::size_t bytes);
// Of all that device_buffer has given this thread so far, whether it was given back or not.
std::size_t device_bytes() noexcept;

// Fills memory that is used again with bytes of 0xFF, NaN in every type of float, so that a kernel shows which reads
// what it has not written. In debug builds alone, and not in a recording.
void poison(void* memory, std::size_t bytes, cudaStream_t stream);

// Uninitialised page-locked host memory: asynchronous copies need it.
Buffer pinned_buffer(std::size_t bytes);

}  // namespace ember
