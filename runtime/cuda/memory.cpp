#include "runtime/cuda/memory.h"

#include <cuda_runtime_api.h>

#include "runtime/cuda/check.h"

namespace ember {

Buffer device_buffer(std::size_t bytes) {
  if (bytes == 0) return {};
  void* data = nullptr;
  const cudaError_t status = cudaMalloc(&data, bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    std::size_t free = 0, total = 0;
    check_cuda(cudaMemGetInfo(&free, &total), "asking for the free memory");
    fail("out of device memory: {} MiB were asked for, {} of {} MiB are free; a smaller --batch-size needs less",
         (bytes >> 20) + 1, free >> 20, total >> 20);
  }
  check_cuda(status, "allocating memory");
  return Buffer(data, bytes, [](void* pointer) { report_cuda(cudaFree(pointer), "releasing memory"); });
}

Buffer pinned_buffer(std::size_t bytes) {
  if (bytes == 0) return {};
  void* data = nullptr;
  check_cuda(cudaMallocHost(&data, bytes), "allocating page-locked memory");
  return Buffer(data, bytes, [](void* pointer) { report_cuda(cudaFreeHost(pointer), "releasing page-locked memory"); });
}

}  // namespace ember
