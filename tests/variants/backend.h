// The backend whose rungs a test program is for, CPU or (EMBER_VARIANTS_CUDA) CUDA, under one set of names: matrices
// whose surroundings are watched, arrays and batches where the kernels' memory is, and how far results may stray.
#pragma once

#include <memory>
#include <vector>

#include "bench/variants/ladder.h"
#ifdef EMBER_VARIANTS_CUDA
#include "tests/cuda/cuda_support.h"
#else
#include "tests/kernels/packed_sequences.h"
#include "tests/kernels/reproducible.h"
#include "tests/kernels/strided.h"
#include "tests/support.h"
#endif

namespace ember::testing {

#ifdef EMBER_VARIANTS_CUDA

using Matrix = DeviceMatrix;
template <typename T>
using Array = DeviceArray<T>;
using OwnBatch = DeviceBatch;
constexpr DType kActivations = DType::f16, kWorking = DType::f16;

inline const variants::Ladders& ladders() {
  static const variants::Ladders all = variants::cuda_ladders(device());
  return all;
}
template <typename T>
std::vector<T> stored(std::vector<T> values) {
  return to_halves(std::move(values));
}
// `twin`: the same in f32 with the roundings that f16 storage asks for. `floor`: beside them (cuda_support.h).
inline ::testing::AssertionResult agrees(const std::vector<float>& actual, const std::vector<float>& twin,
                                         const std::vector<double>& expected, double floor) {
  return near_twin(actual, twin, expected, floor);
}

#else

struct Layout {
  std::int64_t gap = 0, shift = 0;
};
struct Matrix : StridedMatrix {
  Matrix(DType, std::int64_t rows, std::int64_t cols, const std::vector<double>& values = {}, Layout layout = {})
      : StridedMatrix(rows, cols, layout.gap, values) {}
};
template <typename T>
struct Array {
  explicit Array(const std::vector<T>& values) : values(values) {}
  T* data() const { return values.data(); }
  mutable std::vector<T> values;
};
struct OwnBatch {
  explicit OwnBatch(const PackedSequences& packed) : batch(packed.batch) {}
  Batch batch;
};
constexpr DType kActivations = DType::f32;

inline const variants::Ladders& ladders() {
  static const auto one = make_cpu_kernels(Precision::fp32, 1), two = make_cpu_kernels(Precision::fp32, 2);
  static const variants::Ladders all = variants::cpu_ladders(*one, *two, 2);
  return all;
}
template <typename T>
std::vector<T> stored(std::vector<T> values) {
  return values;
}
inline ::testing::AssertionResult agrees(const std::vector<float>& actual, const std::vector<float>&,
                                         const std::vector<double>& expected, double floor) {
  return all_close(actual, expected, floor, 0);
}

#endif

}  // namespace ember::testing
