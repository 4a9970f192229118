// How kernels are launched: always here, never with <<<>>>, so that each launch names a stream and is checked.
#pragma once

#include <cstddef>
#include <utility>

#include "runtime/cuda/check.h"
#include "runtime/cuda/simt.h"

namespace ember {

// Runs kernel(arguments...) on `stream`. `name` stands in the error if it fails. A block gets `shared_bytes` of dynamic
// shared memory; above 48 KB (and up to 64 KB, which sm_75 has) the kernel is told so first.
template <typename... Parameters, typename... Arguments>
void launch(const char* name, cudaStream_t stream, dim3 grid, dim3 block, std::size_t shared_bytes,
            void (*kernel)(Parameters...), Arguments&&... arguments) {
  constexpr std::size_t kWithoutAsking = 48 << 10;
  if (shared_bytes > kWithoutAsking)
    check_cuda(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(shared_bytes)),
               name);
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  check_cuda(cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...), name);
  check_launched(name, stream);
}

}  // namespace ember
