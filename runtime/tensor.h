// Views of numbers in memory. Every tensor of the model has at most two dimensions, so a view is a row-major matrix
// whose rows may lie `stride` elements apart (a block of columns of a wider matrix). Views own nothing.
#pragma once

#include <cstddef>
#include <cstdint>

#include "runtime/error.h"

namespace ember {

enum class DType : std::uint8_t { f32, f16, bf16 };

constexpr std::size_t size_of(DType type) {
  return type == DType::f32 ? 4 : 2;
}

struct Tensor {
  void* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t stride = 0;  // elements from one row to the next; cols when the rows are adjacent
  DType dtype = DType::f32;

  bool empty() const { return data == nullptr || rows == 0 || cols == 0; }
  bool contiguous() const { return stride == cols || rows <= 1; }
  std::int64_t size() const { return rows * cols; }

  // The elements as floats; std::logic_error where the data type is another.
  float* f32() const {
    if (dtype != DType::f32) throw std::logic_error("a tensor of 32-bit floats was expected");
    return static_cast<float*>(data);
  }
  float* row(std::int64_t r) const { return f32() + r * stride; }

  // Columns [begin, begin + count) of every row.
  Tensor columns(std::int64_t begin, std::int64_t count) const { return {at(begin), rows, count, stride, dtype}; }
  // Rows [begin, begin + count).
  Tensor row_block(std::int64_t begin, std::int64_t count) const {
    return {at(begin * stride), count, cols, stride, dtype};
  }

 private:
  // A view without memory (an arena that only measures) stays one.
  void* at(std::int64_t element) const {
    return data == nullptr ? nullptr
                           : static_cast<std::byte*>(data) + static_cast<std::size_t>(element) * size_of(dtype);
  }
};

inline Tensor matrix(void* data, std::int64_t rows, std::int64_t cols, DType dtype = DType::f32) {
  return {data, rows, cols, cols, dtype};
}
inline Tensor vector(void* data, std::int64_t size, DType dtype = DType::f32) {
  return {data, 1, size, size, dtype};
}

}  // namespace ember
