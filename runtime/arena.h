// One block of memory from which a step's buffers are taken in order. Laid out twice by the same code: first with no
// memory behind it, which measures the size, then for real; so a step itself allocates nothing.
#pragma once

#include <cstddef>
#include <memory>

#include "runtime/tensor.h"

namespace ember {

// Owns a block of memory on some device; moves, never copies.
class Buffer {
 public:
  using Free = void (*)(void*);
  Buffer() = default;
  Buffer(void* data, std::size_t bytes, Free free) : data_(data, free), size_(bytes) {}
  void* data() const { return data_.get(); }
  std::size_t size() const { return data_ == nullptr ? 0 : size_; }  // 0 once moved from
  float* f32() const { return static_cast<float*>(data()); }

 private:
  std::unique_ptr<void, Free> data_{nullptr, nullptr};
  std::size_t size_ = 0;
};

// Host memory aligned to 64 bytes and filled with zeros. Throws Error when the system has no such memory.
Buffer host_buffer(std::size_t bytes);

class Arena {
 public:
  static constexpr std::size_t kAlignment = 64;

  Arena() = default;  // measures only: views it hands out have no data
  Arena(void* base, std::size_t capacity) : base_(static_cast<std::byte*>(base)), capacity_(capacity) {}

  // The next `bytes`, aligned to kAlignment; null while measuring. Past the capacity it throws std::logic_error: the
  // measuring run was wrong.
  void* take(std::size_t bytes);
  Tensor matrix(std::int64_t rows, std::int64_t cols, DType dtype = DType::f32) {
    return ember::matrix(take(static_cast<std::size_t>(rows * cols) * size_of(dtype)), rows, cols, dtype);
  }
  Tensor vector(std::int64_t size, DType dtype = DType::f32) { return matrix(1, size, dtype); }

  std::size_t used() const { return used_; }
  void reset() { used_ = 0; }

 private:
  std::byte* base_ = nullptr;
  std::size_t capacity_ = 0;
  std::size_t used_ = 0;
};

}  // namespace ember
