// The emulator itself: what CUDA defines comes out as CUDA defines it.
#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "runtime/cuda/launch.h"
#include "runtime/cuda/memory.h"
#include "runtime/cuda/stream.h"

namespace ember {
namespace {

__global__ void __launch_bounds__(256) block_sum(const float* x, float* out, int n) {
  EMBER_SHARED(float, s, 256);
  const int t = static_cast<int>(threadIdx.x);
  s[t] = t < n ? x[t] : 0.0f;
  __syncthreads();
  for (int offset = 128; offset > 0; offset /= 2) {
    if (t < offset) s[t] += s[t + offset];
    __syncthreads();
  }
  if (t == 0) out[blockIdx.x] = s[0];
}

TEST(Emulator, SumsABlock) {
  const Stream stream;
  const Buffer x = device_buffer(200 * sizeof(float)), out = device_buffer(3 * sizeof(float));
  std::vector<float> values(200), sums(3);
  std::iota(values.begin(), values.end(), 1.0f);
  check_cuda(cudaMemcpyAsync(x.data(), values.data(), 800, cudaMemcpyHostToDevice, stream), "copy");
  launch("block_sum", stream, 3, 256, 0, block_sum, x.f32(), out.f32(), 200);
  check_cuda(cudaMemcpyAsync(sums.data(), out.data(), 12, cudaMemcpyDeviceToHost, stream), "copy");
  stream.synchronize();
  EXPECT_EQ(sums, std::vector<float>(3, 20100.0f));
}

}  // namespace
}  // namespace ember
