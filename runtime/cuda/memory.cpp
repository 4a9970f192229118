#include "runtime/cuda/memory.h"

#include <cuda_runtime_api.h>

#include "runtime/cuda/check.h"

namespace ember {
namespace {

thread_local std::size_t device_bytes_given = 0;

}  // namespace

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
  device_bytes_given += bytes;
  return Buffer(data, bytes, [](void* pointer) {
    count_synchronisation();  // it waits for all that the device has to do
    report_cuda(cudaFree(pointer), "releasing memory");
  });
}

std::size_t device_bytes() noexcept {
  return device_bytes_given;
}

void poison([[maybe_unused]] void* memory, [[maybe_unused]] std::size_t bytes, [[maybe_unused]] cudaStream_t stream) {
#ifndef NDEBUG
  cudaStreamCaptureStatus capturing{};
  check_cuda(cudaStreamIsCapturing(stream, &capturing), "asking for the state of a stream");
  if (capturing == cudaStreamCaptureStatusNone && bytes > 0)
    check_cuda(cudaMemsetAsync(memory, 0xFF, bytes, stream), "poisoning memory");
#endif
}

Buffer pinned_buffer(std::size_t bytes) {
  if (bytes == 0) return {};
  void* data = nullptr;
  check_cuda(cudaMallocHost(&data, bytes), "allocating page-locked memory");
  return Buffer(data, bytes, [](void* pointer) {
    count_synchronisation();  // likewise
    report_cuda(cudaFreeHost(pointer), "releasing page-locked memory");
  });
}

}  // namespace ember
