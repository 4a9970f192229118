// Operands for the tests of kernels: numbers that float and double share, and matrices whose surroundings are watched.
#pragma once

#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "runtime/tensor.h"

namespace ember::testing {

// Unit normals times `scale`, floats exactly, so that a kernel and its oracle see the same numbers.
inline std::vector<double> draw(std::int64_t size, unsigned seed, float scale = 1) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<double> values(static_cast<std::size_t>(size));
  for (double& value : values) value = scale * normal(generator);
  return values;
}

// A matrix whose rows lie `gap` floats apart, with a sentinel in every gap, before the first row and after the last.
// Without values it is filled with NaN, which an output that is not wholly overwritten keeps.
class StridedMatrix {
 public:
  StridedMatrix(std::int64_t rows, std::int64_t cols, std::int64_t gap, const std::vector<double>& values = {})
      : memory_(static_cast<std::size_t>(kMargin + rows * (cols + gap) + kMargin), kSentinel) {
    view = {memory_.data() + kMargin, rows, cols, cols + gap, DType::f32};
    for (std::int64_t i = 0; i < rows * cols; ++i)
      view.row(i / cols)[i % cols] = values.empty() ? std::numeric_limits<float>::quiet_NaN()
                                                    : static_cast<float>(values[static_cast<std::size_t>(i)]);
  }
  StridedMatrix(const StridedMatrix&) = delete;
  StridedMatrix& operator=(const StridedMatrix&) = delete;

  std::vector<float> values() const {
    std::vector<float> out;
    for (std::int64_t r = 0; r < view.rows; ++r) out.insert(out.end(), view.row(r), view.row(r) + view.cols);
    return out;
  }
  bool intact() const {
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(memory_.size()); ++i) {
      const std::int64_t place = i - kMargin;
      const bool inside = place >= 0 && place < view.rows * view.stride && place % view.stride < view.cols;
      if (!inside && memory_[static_cast<std::size_t>(i)] != kSentinel) return false;
    }
    return true;
  }

  Tensor view;

 private:
  static constexpr std::int64_t kMargin = 32;
  static constexpr float kSentinel = -12345.5f;
  std::vector<float> memory_;
};

}  // namespace ember::testing
