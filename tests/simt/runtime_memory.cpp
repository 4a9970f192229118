// Allocation and copies of the emulated CUDA runtime. Every allocation is a heap block of its exact size, full of 0xFF.
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "simt/grid.h"
#include "simt/runtime_state.h"

namespace simt {
namespace {

constexpr std::size_t kAlignment = 256;  // cudaMalloc's

class Allocations {
 public:
  cudaError_t allocate(void** pointer, std::size_t bytes, std::size_t limit) {
    if (pointer == nullptr) return cudaErrorInvalidValue;
    *pointer = nullptr;
    if (bytes == 0) return cudaSuccess;
    if (bytes > limit || in_use_ > limit - bytes || posix_memalign(pointer, kAlignment, bytes) != 0)
      return cudaErrorMemoryAllocation;
    std::memset(*pointer, 0xFF, bytes);
    blocks_[reinterpret_cast<std::uintptr_t>(*pointer)] = bytes;
    in_use_ += bytes;
    return cudaSuccess;
  }

  cudaError_t free(void* pointer) {
    if (pointer == nullptr) return cudaSuccess;
    const auto found = blocks_.find(reinterpret_cast<std::uintptr_t>(pointer));
    if (found == blocks_.end()) return cudaErrorInvalidValue;
    wait_for_all();  // which CUDA need not do, and does
    in_use_ -= found->second;
    blocks_.erase(found);
    std::free(pointer);
    return cudaSuccess;
  }

  bool contains(const void* pointer, std::size_t bytes) const {
    const auto address = reinterpret_cast<std::uintptr_t>(pointer);
    auto after = blocks_.upper_bound(address);
    if (after == blocks_.begin()) return false;
    --after;
    return address + bytes <= after->first + after->second;
  }

  std::size_t in_use() const { return in_use_; }

 private:
  std::map<std::uintptr_t, std::size_t> blocks_;
  std::size_t in_use_ = 0;
};

Allocations& device_memory() {
  static Allocations& instance = *new Allocations;
  return instance;
}

Allocations& pinned_memory() {
  static Allocations& instance = *new Allocations;
  return instance;
}

// On a device that is lost the memory goes all the same.
cudaError_t release(Allocations& memory, void* pointer) {
  const cudaError_t error = outside_captures();
  if (error == cudaErrorStreamCaptureUnsupported) return error;
  const cudaError_t freed = memory.free(pointer);
  return error != cudaSuccess ? error : freed;
}

bool reachable(const void* pointer, std::size_t bytes, bool on_device) {
  return on_device ? is_device_memory(pointer, bytes) : !is_device_memory(pointer, 1);
}

// Whether the pointers are what `kind` says; to the real runtime a wrong kind is an error too, or a crash.
bool agrees(cudaMemcpyKind kind, const void* to, const void* from, std::size_t bytes) {
  switch (kind) {
    case cudaMemcpyHostToDevice:
      return reachable(to, bytes, true) && reachable(from, bytes, false);
    case cudaMemcpyDeviceToHost:
      return reachable(to, bytes, false) && reachable(from, bytes, true);
    case cudaMemcpyDeviceToDevice:
      return reachable(to, bytes, true) && reachable(from, bytes, true);
    default:
      return false;
  }
}

cudaError_t transfer(cudaStream_t stream, std::function<void()> work) {
  return perform(stream, [work = std::move(work)] { run_library(work); });
}

}  // namespace

bool is_device_memory(const void* pointer, std::size_t bytes) {
  return device_memory().contains(pointer, bytes);
}

bool is_pinned_memory(const void* pointer, std::size_t bytes) {
  return pinned_memory().contains(pointer, bytes);
}

std::size_t memory_in_use() {
  return device_memory().in_use();
}

}  // namespace simt

using simt::result;

cudaError_t cudaMalloc(void** pointer, std::size_t bytes) {
  if (const cudaError_t error = simt::outside_captures(); error != cudaSuccess) return result(error);
  return result(simt::device_memory().allocate(pointer, bytes, simt::device().memory));
}

cudaError_t cudaFree(void* pointer) {
  return result(simt::release(simt::device_memory(), pointer));
}

cudaError_t cudaMallocHost(void** pointer, std::size_t bytes) {
  if (const cudaError_t error = simt::outside_captures(); error != cudaSuccess) return result(error);
  return result(simt::pinned_memory().allocate(pointer, bytes, SIZE_MAX));
}

cudaError_t cudaFreeHost(void* pointer) {
  return result(simt::release(simt::pinned_memory(), pointer));
}

cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  if (const cudaError_t error = simt::state_of_device(); error != cudaSuccess) return result(error);
  *total = simt::device().memory;
  *free = *total - simt::memory_in_use();
  return result(cudaSuccess);
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  if (bytes > 0 && !simt::agrees(kind, to, from, bytes)) return result(cudaErrorInvalidValue);
  // Memory that is not page-locked is read before the call returns, and written (NVIDIA, CUDA Runtime API, "API
  // synchronization behavior").
  const bool at_once = stream != nullptr && stream->recording == nullptr;
  if (at_once && kind == cudaMemcpyHostToDevice && !simt::is_pinned_memory(from, bytes)) {
    const auto* first = static_cast<const std::byte*>(from);
    return simt::transfer(stream, [to, staged = std::vector<std::byte>(first, first + bytes)] {
      std::memcpy(to, staged.data(), staged.size());
    });
  }
  const cudaError_t error = simt::transfer(stream, [=] {
    if (bytes > 0) std::memcpy(to, from, bytes);
  });
  if (at_once && kind == cudaMemcpyDeviceToHost && error == cudaSuccess && !simt::is_pinned_memory(to, bytes))
    simt::wait_for(stream->after);
  return error;
}

cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t stream) {
  if (bytes > 0 && !simt::is_device_memory(to, bytes)) return result(cudaErrorInvalidValue);
  return simt::transfer(stream, [=] {
    if (bytes > 0) std::memset(to, value, bytes);
  });
}
