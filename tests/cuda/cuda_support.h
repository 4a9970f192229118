// What the tests of the CUDA backend share: operands in device memory whose surroundings are watched, and how far fp16
// results may stray. The same sources run on a GPU and under the emulator.
#pragma once

#include <cuda_fp16.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <vector>

#include "kernels/cuda/cuda_kernels.h"
#include "tests/kernels/packed_sequences.h"
#include "tests/kernels/reproducible.h"
#include "tests/kernels/strided.h"
#include "tests/support.h"

namespace ember::testing {

constexpr DType kHalf = DType::f16, kFloat = DType::f32;
constexpr double kLargestHalf = 65504, kSmallestHalf = 0x1p-24;

inline CudaKernels& device() {
  static const auto kernels = std::make_unique<CudaKernels>();
  return *kernels;
}

// What f16 storage makes of x.
inline float to_half(double x) {
  return __half2float(__float2half_rn(static_cast<float>(x)));
}
template <typename T>
std::vector<T> to_halves(std::vector<T> values) {
  for (T& value : values) value = static_cast<T>(to_half(static_cast<double>(value)));
  return values;
}
// Normals times `scale`, halves exactly.
inline std::vector<double> draw_halves(std::int64_t size, unsigned seed, float scale = 1) {
  return to_halves(draw(size, seed, scale));
}
inline std::vector<float> floats(const std::vector<double>& values) {
  return {values.begin(), values.end()};
}
inline std::vector<double> doubles(const std::vector<float>& values) {
  return {values.begin(), values.end()};
}

// How a matrix lies in memory: `gap` elements between its rows, its first element `shift` elements off an address
// aligned for every vector.
struct Layout {
  std::int64_t gap = 0, shift = 0;
};

// A matrix of f32 or f16 in device memory, with sentinels in every gap, before the first row and after the last.
// Without values it is filled with NaN, which an output that is not wholly overwritten keeps.
class DeviceMatrix {
 public:
  DeviceMatrix(DType type, std::int64_t rows, std::int64_t cols, const std::vector<double>& values = {},
               Layout layout = {})
      : first_(kMargin + layout.shift),
        image_(size_of(type) * static_cast<std::size_t>(first_ + rows * (cols + layout.gap) + kMargin), kSentinel),
        memory_(device().allocate(image_.size())) {
    view = {static_cast<std::byte*>(memory_.data()) + byte(first_, type), rows, cols, cols + layout.gap, type};
    for (std::int64_t i = 0; i < rows * cols; ++i)
      put(i, values.empty() ? std::nan("") : values[static_cast<std::size_t>(i)]);
    device().upload(memory_.data(), image_.data(), image_.size());
  }
  DeviceMatrix(const DeviceMatrix&) = delete;
  DeviceMatrix& operator=(const DeviceMatrix&) = delete;

  std::vector<float> values() const {
    const std::vector<std::uint8_t> now = download();
    std::vector<float> out(static_cast<std::size_t>(view.size()));
    for (std::int64_t i = 0; i < view.size(); ++i) {
      const std::uint8_t* from = now.data() + at(i);
      __half half;
      if (view.dtype == DType::f16) {
        std::memcpy(&half, from, sizeof half);
        out[static_cast<std::size_t>(i)] = __half2float(half);
      } else {
        std::memcpy(&out[static_cast<std::size_t>(i)], from, sizeof(float));
      }
    }
    return out;
  }
  bool intact() const {
    std::vector<std::uint8_t> now = download();
    for (std::int64_t i = 0; i < view.size(); ++i) std::memcpy(now.data() + at(i), image_.data() + at(i), width());
    return now == image_;
  }

  Tensor view;

 private:
  static constexpr std::int64_t kMargin = 64;
  static constexpr std::uint8_t kSentinel = 0xA5;

  static std::size_t byte(std::int64_t element, DType type) {
    return static_cast<std::size_t>(element) * size_of(type);
  }
  std::size_t width() const { return size_of(view.dtype); }
  std::size_t at(std::int64_t i) const {
    return byte(first_ + i / view.cols * view.stride + i % view.cols, view.dtype);
  }
  void put(std::int64_t i, double value) {
    const auto single = static_cast<float>(value);
    const __half half = __float2half_rn(single);
    if (view.dtype == DType::f16)
      std::memcpy(image_.data() + at(i), &half, sizeof half);
    else
      std::memcpy(image_.data() + at(i), &single, sizeof single);
  }
  std::vector<std::uint8_t> download() const {
    std::vector<std::uint8_t> now(image_.size());
    device().download(now.data(), memory_.data(), now.size());
    return now;
  }

  std::int64_t first_;
  std::vector<std::uint8_t> image_;
  Buffer memory_;
};

// `values` in device memory.
template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(const std::vector<T>& values)
      : size_(values.size()), memory_(device().allocate(size_ * sizeof(T))) {
    device().upload(memory_.data(), values.data(), size_ * sizeof(T));
  }
  T* data() const { return static_cast<T*>(memory_.data()); }
  std::vector<T> values() const {
    std::vector<T> out(size_);
    device().download(out.data(), memory_.data(), size_ * sizeof(T));
    return out;
  }

 private:
  std::size_t size_;
  Buffer memory_;
};

// The batch of `packed` with its arrays in device memory.
class DeviceBatch {
 public:
  explicit DeviceBatch(const PackedSequences& packed)
      : batch(packed.batch),
        token_ids_(copy(batch.token_ids, batch.tokens)),
        cu_seqlens_(copy(batch.cu_seqlens, batch.sequences + 1)),
        unique_ids_(copy(batch.unique_ids, batch.unique)),
        unique_offsets_(copy(batch.unique_offsets, batch.unique + 1)),
        occurrences_(copy(batch.occurrences, packed.batch.unique_offsets[batch.unique])) {
    batch.token_ids = token_ids_.data();
    batch.cu_seqlens = cu_seqlens_.data();
    batch.unique_ids = unique_ids_.data();
    batch.unique_offsets = unique_offsets_.data();
    batch.occurrences = occurrences_.data();
  }

  Batch batch;

 private:
  static DeviceArray<std::int32_t> copy(const std::int32_t* from, std::int64_t count) {
    return DeviceArray<std::int32_t>(std::vector<std::int32_t>(from, from + count));
  }
  DeviceArray<std::int32_t> token_ids_, cu_seqlens_, unique_ids_, unique_offsets_, occurrences_;
};

// The values of `outputs`, gradients of parameters finished; their surroundings must be intact.
inline Results device_results(std::initializer_list<const DeviceMatrix*> outputs) {
  device().finish_gradients();
  Results values;
  for (const DeviceMatrix* output : outputs) {
    EXPECT_TRUE(output->intact()) << "output " << values.size() << " was written outside of its elements";
    values.push_back(output->values());
  }
  return values;
}

// run() twice, which must give the same bits.
template <typename Run>
Results run_twice(const Run& run) {
  const Results first = run();
  EXPECT_EQ(first, run()) << "a repetition gives other bits";
  return first;
}

// The bound for results that pass through f16: at most twice the error of the twin, the same computation in float with
// every number that is stored in f16 rounded to it, plus `floor`; in the largest element and in L2. Finite first.
inline ::testing::AssertionResult near_twin(const std::vector<float>& actual, const std::vector<float>& twin,
                                            const std::vector<double>& expected, double floor) {
  if (actual.size() != expected.size() || twin.size() != expected.size())
    return ::testing::AssertionFailure() << "sizes differ: " << actual.size() << ", " << twin.size() << " and "
                                         << expected.size();
  double worst = 0, worst_twin = 0, squares = 0, squares_twin = 0;
  std::size_t where = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const double a = actual[i], t = twin[i], e = expected[i];
    if (!std::isfinite(a) || !std::isfinite(t) || !std::isfinite(e))
      return ::testing::AssertionFailure()
             << "element " << i << " is not finite: " << a << ", twin " << t << ", expected " << e;
    if (std::fabs(a - e) > worst) worst = std::fabs(a - e), where = i;
    worst_twin = std::max(worst_twin, std::fabs(t - e));
    squares += (a - e) * (a - e);
    squares_twin += (t - e) * (t - e);
  }
  const double l2 = std::sqrt(squares), l2_twin = std::sqrt(squares_twin);
  const double l2_floor = floor * std::sqrt(static_cast<double>(actual.size()));
  if (worst <= 2 * worst_twin + floor && l2 <= 2 * l2_twin + l2_floor) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "element " << where << " of " << actual.size() << " is " << actual[where]
                                       << ", expected " << expected[where] << "; off by " << worst
                                       << " at most, the twin by " << worst_twin << "; in L2 by " << l2
                                       << ", the twin by " << l2_twin << "; floor " << floor;
}

}  // namespace ember::testing
