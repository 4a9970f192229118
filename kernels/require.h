// Shape checks inside the kernels: a wrong shape is a defect of the caller's, not the user's.
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <stdexcept>

#include "runtime/tensor.h"

namespace ember {

inline void require(bool condition, const char* message) {
  if (!condition) throw std::logic_error(message);
}

// Whether `tensor` is a matrix of that shape and type; a vector has one row.
inline bool has_shape(const Tensor& tensor, std::int64_t rows, std::int64_t cols, DType dtype = DType::f32) {
  return tensor.rows == rows && tensor.cols == cols && tensor.dtype == dtype;
}
inline bool all_have_shape(std::initializer_list<Tensor> tensors, std::int64_t rows, std::int64_t cols,
                           DType dtype = DType::f32) {
  return std::all_of(tensors.begin(), tensors.end(), [&](const Tensor& t) { return has_shape(t, rows, cols, dtype); });
}

// Whether both vectors hold `rows` f32 numbers or more: room for the largest batch serves the smaller ones too.
inline bool has_room(const Tensor& mean, const Tensor& rstd, std::int64_t rows) {
  return has_shape(mean, 1, mean.cols) && has_shape(rstd, 1, rstd.cols) && mean.cols >= rows && rstd.cols >= rows;
}

}  // namespace ember
