// ldmatrix and mma.m16n8k8 against plain loops. The layouts of the fragments are facts of the hardware: the emulator's
// are read from the PTX ISA, and on a GPU this test shows that they were read correctly.
#include <gtest/gtest.h>

#include <cstdint>
#include <random>
#include <vector>

#include "runtime/cuda/launch.h"
#include "runtime/cuda/memory.h"
#include "runtime/cuda/stream.h"

namespace ember {
namespace {

constexpr int kStride = 40;  // halves from row to row: 80 bytes, no two of 8 rows in the same banks

// c (16 x 8) = a (16 x 16) b (16 x 8), in two steps of 8; `transposed` b is stored as (8 x 16).
template <bool kTransposed>
__global__ void multiply(const __half* a, const __half* b, float* c) {
  EMBER_SHARED(__half, sa, 16 * kStride);
  EMBER_SHARED(__half, sb, 16 * kStride);
  const int lane = static_cast<int>(threadIdx.x), g = lane / 4, t = lane % 4;
  for (int i = lane; i < 16 * 16; i += 32) sa[i / 16 * kStride + i % 16] = a[i];
  constexpr int kColumns = kTransposed ? 16 : 8;
  for (int i = lane; i < 16 * 8; i += 32) sb[i / kColumns * kStride + i % kColumns] = b[i];
  __syncwarp();
  float d[4] = {0, 0, 0, 0};
  std::uint32_t left[4], right[4];
  ldmatrix_x4(left, sa + lane % 16 * kStride + lane / 16 * 8);
  if constexpr (kTransposed)
    ldmatrix_x4(right, sb + lane % 8 * kStride + lane / 8 % 2 * 8);
  else
    ldmatrix_x4_trans(right, sb + lane % 16 * kStride);
  for (int step = 0; step < 2; ++step) mma_m16n8k8(d, {left[2 * step], left[2 * step + 1]}, right[step]);
  for (int i = 0; i < 4; ++i) c[(g + 8 * (i / 2)) * 8 + 2 * t + i % 2] = d[i];
}

// Each lane's fragments of the four matrices that hold 0, 1, 2, ... row by row; count (4, or transposed 2) of them.
template <int kCount, bool kTransposed>
__global__ void load(std::uint32_t* out) {
  EMBER_SHARED(std::uint16_t, s, 4 * 64);
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < 4 * 64; i += 32) s[i] = static_cast<std::uint16_t>(i);
  __syncwarp();
  std::uint32_t r[kCount];
  const std::uint16_t* row = s + 8 * lane;
  if constexpr (kCount == 4 && !kTransposed) ldmatrix_x4(r, row);
  if constexpr (kCount == 2 && kTransposed) ldmatrix_x2_trans(r, row);
  if constexpr (kCount == 4 && kTransposed) ldmatrix_x4_trans(r, row);
  for (int i = 0; i < kCount; ++i) out[32 * i + lane] = r[i];
}

class Matrix : public ::testing::Test {
 protected:
  template <typename T>
  Buffer upload(const std::vector<T>& values) {
    Buffer memory = device_buffer(values.size() * sizeof(T));
    check_cuda(cudaMemcpyAsync(memory.data(), values.data(), memory.size(), cudaMemcpyHostToDevice, stream_),
               "copying");
    stream_.synchronize();
    return memory;
  }
  template <typename T>
  std::vector<T> download(const Buffer& memory) {
    std::vector<T> values(memory.size() / sizeof(T));
    check_cuda(cudaMemcpyAsync(values.data(), memory.data(), memory.size(), cudaMemcpyDeviceToHost, stream_),
               "copying");
    stream_.synchronize();
    return values;
  }
  template <int kCount, bool kTransposed>
  void expect_loads() {
    const Buffer out = device_buffer(32 * kCount * sizeof(std::uint32_t));
    launch("load", stream_, 1, 32, 0, load<kCount, kTransposed>, static_cast<std::uint32_t*>(out.data()));
    const auto values = download<std::uint32_t>(out);
    for (int m = 0; m < kCount; ++m)
      for (int lane = 0; lane < 32; ++lane) {
        const int g = lane / 4, t = lane % 4;
        const auto element = [&](int i) { return 64 * m + (kTransposed ? 8 * (2 * t + i) + g : 8 * g + 2 * t + i); };
        EXPECT_EQ(values[static_cast<std::size_t>(32 * m + lane)],
                  static_cast<std::uint32_t>(element(0) | element(1) << 16))
            << "matrix " << m << " lane " << lane;
      }
  }
  Stream stream_;
};

TEST_F(Matrix, LoadsFragments) {
  expect_loads<4, false>();
  expect_loads<2, true>();
  expect_loads<4, true>();
}

TEST_F(Matrix, MultipliesLikeAPlainLoop) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<__half> a(16 * 16), b(16 * 8);
  for (auto& value : a) value = __float2half(normal(random));
  for (auto& value : b) value = __float2half(normal(random));
  const Buffer a_ = upload(a), b_ = upload(b), c_ = device_buffer(16 * 8 * sizeof(float));
  for (const bool transposed : {false, true}) {
    launch("multiply", stream_, 1, 32, 0, transposed ? multiply<true> : multiply<false>,
           static_cast<const __half*>(a_.data()), static_cast<const __half*>(b_.data()), c_.f32());
    const auto c = download<float>(c_);
    for (int m = 0; m < 16; ++m)
      for (int n = 0; n < 8; ++n) {
        double sum = 0;
        for (int k = 0; k < 16; ++k)
          sum += static_cast<double>(__half2float(a[static_cast<std::size_t>(16 * m + k)])) *
                 static_cast<double>(__half2float(b[static_cast<std::size_t>(transposed ? 16 * n + k : 8 * k + n)]));
        // 16 products in fp32: 16 roundings of sums below 32.
        EXPECT_NEAR(c[static_cast<std::size_t>(8 * m + n)], sum, 3e-5) << m << ", " << n;
      }
  }
}

}  // namespace
}  // namespace ember
