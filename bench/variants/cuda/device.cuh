// What the CUDA rungs share: a stream and memory for what lies between their launches.
#pragma once

#include "kernels/cuda/vector_io.cuh"
#include "kernels/kernels.h"
#include "runtime/cuda/check.h"
#include "runtime/cuda/launch.h"
#include "runtime/cuda/stream.h"

namespace ember::variants {

struct Device {
  explicit Device(Kernels& kernels) : kernels(kernels) {}
  // Device memory that the next call may overwrite. It grows while nothing runs.
  void* scratch(std::size_t bytes) {
    if (memory.size() < bytes) {
      stream.synchronize();
      memory = kernels.allocate(bytes);
      check_cuda(cudaDeviceSynchronize(), "clearing memory");
    }
    return memory.data();
  }

  Kernels& kernels;
  Stream stream;
  Buffer memory;
};

// This thread's place in a grid of one dimension.
__device__ inline std::int64_t thread_in_grid() {
  return static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

// kernel(arguments...) with a thread, of `block` to a block, for each of `tasks`.
template <typename... Parameters, typename... Arguments>
void launch_threads(Device& device, const char* name, std::int64_t tasks, unsigned block, void (*kernel)(Parameters...),
                    Arguments&&... arguments) {
  if (tasks == 0) return;
  launch(name, device.stream, dim3(blocks_for(tasks, block)), dim3(block), 0, kernel,
         std::forward<Arguments>(arguments)...);
}

}  // namespace ember::variants
