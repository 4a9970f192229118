// Errors of the CUDA runtime as exceptions.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <string_view>

namespace ember {

// Returns when `status` is cudaSuccess. What only a defect of Ember's can bring about (a wrong call, a kernel that did
// what it must not) becomes std::logic_error; anything else (no device, a driver too old, no memory left, a device that
// is lost or in use) an Error, one line that says what was being done and what CUDA says of it. `doing`: "cudaMalloc of
// 400 bytes", the name of a kernel.
void check_cuda(cudaError_t status, std::string_view doing);

// For destructors, which cannot throw: one line on stderr. Silent where the process is ending, since the runtime may be
// gone before the last owner, and of an error that check_cuda or report_cuda has told last.
void report_cuda(cudaError_t status, std::string_view doing) noexcept;

// After a launch. With EMBER_CUDA_SYNC=1 in the environment it waits for the kernel (unless the stream is being
// captured), so that what goes wrong in a kernel is reported with its name and not at some later call.
void check_launched(const char* kernel, cudaStream_t stream);

// What this thread has given to streams so far: kernels through launch() (runtime/cuda/launch.h), and matrix products,
// which are one kernel or more of a library's. For benchmarks; a graph counts when it is made, not when it is launched.
std::int64_t launches() noexcept;
void count_launch() noexcept;

// How often this thread has waited for a device so far: through Stream and Event, or as it gave memory back.
std::int64_t synchronisations() noexcept;
void count_synchronisation() noexcept;

}  // namespace ember
