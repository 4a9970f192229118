// How kernels are launched: always here, never with <<<>>>, so that each launch names a stream and is checked.
#pragma once

#include <cstddef>
#include <utility>

#include "runtime/cuda/check.h"
#include "runtime/cuda/device.h"
#include "runtime/cuda/event.h"
#include "runtime/cuda/simt.h"

namespace ember {

// Lets the kernel's blocks have so much dynamic shared memory. Never less than before: a launch with more may be in a
// recording.
inline void allow_shared(const void* kernel, std::size_t bytes, const char* name) {
  constexpr std::size_t kWithoutAsking = 32 << 10;  // it is 48 KB with the kernel's static shared memory
  if (bytes <= kWithoutAsking) return;
  cudaFuncAttributes now{};
  check_cuda(cudaFuncGetAttributes(&now, kernel), name);
  if (now.maxDynamicSharedSizeBytes >= static_cast<int>(bytes)) return;
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)), name);
}

// Runs kernel(arguments...) on `stream`. `name` stands in the error if it fails. A block gets `shared_bytes` of dynamic
// shared memory, with the kernel's static one up to 64 KB on sm_75, 227 on sm_90; above 32 the kernel is told so first.
template <typename... Parameters, typename... Arguments>
void launch(GridStart start, const char* name, cudaStream_t stream, dim3 grid, dim3 block, std::size_t shared_bytes,
            void (*kernel)(Parameters...), Arguments&&... arguments) {
  allow_shared(reinterpret_cast<const void*>(kernel), shared_bytes, name);
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = &early;
  const bool waits = take_wait(stream);
  config.numAttrs = start == GridStart::early && starts_early() && !waits ? 1 : 0;
  check_cuda(cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...), name);
  check_launched(name, stream);
}

template <typename... Parameters, typename... Arguments>
void launch(const char* name, cudaStream_t stream, dim3 grid, dim3 block, std::size_t shared_bytes,
            void (*kernel)(Parameters...), Arguments&&... arguments) {
  launch(GridStart::after, name, stream, grid, block, shared_bytes, kernel, std::forward<Arguments>(arguments)...);
}

// The same of a kernel whose threads call await_previous_grid() (runtime/cuda/simt.h: and what before): from compute
// capability 9.0 on its blocks come to the multiprocessors while the grid before it in the stream ends, which saves
// most of what a launch costs. Where the stream was told to wait for an event since the last launch (Event::block) it
// is launched as any other. NVIDIA, CUDA C++ Programming Guide, "Programmatic Dependent Launch and Synchronization".
template <typename... Parameters, typename... Arguments>
void launch_early(const char* name, cudaStream_t stream, dim3 grid, dim3 block, std::size_t shared_bytes,
                  void (*kernel)(Parameters...), Arguments&&... arguments) {
  launch(GridStart::early, name, stream, grid, block, shared_bytes, kernel, std::forward<Arguments>(arguments)...);
}

}  // namespace ember
