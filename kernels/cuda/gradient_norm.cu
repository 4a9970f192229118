// The L2 norm over all gradients (Kernels::gradient_norm): a sum per chunk of kChunk elements, then the chunks' sums in
// a fixed order.
//
// One block per chunk of one tensor, 4 elements to a thread and turn; then one block for the chunks. Reads 4 bytes an
// element; about 8 operations. A thread sums squares in float, all beyond it is in double, which most GPUs are slow at.
// So that no square overflows or vanishes, those of large and small elements are scaled and summed apart, after Blue,
// "A portable Fortran program to find the Euclidean norm of a vector" (1978).
#include <algorithm>
#include <cmath>

#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/reduce.cuh"
#include "kernels/require.h"
#include "runtime/cuda/launch.h"

namespace ember {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kChunk = 16384;
constexpr std::size_t kMostTensors = 128;  // a launch: the list is a kernel's argument, which holds 4,096 bytes

struct TensorList {
  const float* data[kMostTensors];
  std::int64_t size[kMostTensors];
  int first_chunk[kMostTensors];
  int count;
};

struct Squares {
  static constexpr float kLarge = 0x1p+60f, kSmall = 0x1p-50f, kShrink = 0x1p-64f, kGrow = 0x1p+80f;
  float usual = 0, large = 0, small = 0;

  __device__ void add(float x) {
    const float size = fabsf(x);
    if (size > kLarge)
      large += (x * kShrink) * (x * kShrink);
    else if (size < kSmall)
      small += (x * kGrow) * (x * kGrow);
    else  // NaN too
      usual += x * x;
  }
  __device__ double sum() const {
    return static_cast<double>(usual) + static_cast<double>(small) * 0x1p-160 + static_cast<double>(large) * 0x1p+128;
  }
};

__global__ void __launch_bounds__(kThreads) sum_squares_kernel(const __grid_constant__ TensorList list, double* sums) {
  const int chunk = static_cast<int>(blockIdx.x);
  int t = 0;
  while (t + 1 < list.count && list.first_chunk[t + 1] <= chunk) ++t;
  const std::int64_t begin = (chunk - list.first_chunk[t]) * kChunk;
  const float* data = list.data[t] + begin;
  const int size = static_cast<int>(min(kChunk, list.size[t] - begin));
  const int vectors = reinterpret_cast<std::uintptr_t>(data) % sizeof(float4) == 0 ? size / 4 : 0;
  Squares squares;
  for (int i = static_cast<int>(threadIdx.x); i < vectors; i += kThreads) {
    float x[4];
    load<4>(x, data + 4 * i);
#pragma unroll
    for (float value : x) squares.add(value);
  }
  for (int i = 4 * vectors + static_cast<int>(threadIdx.x); i < size; i += kThreads) squares.add(data[i]);
  const double total = block_sum<kThreads>(squares.sum());
  if (threadIdx.x == 0) sums[chunk] = total;
}

__global__ void __launch_bounds__(kThreads) norm_kernel(StepState* state, const double* sums, int count) {
  double total = 0;
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kThreads) total += sums[i];
  total = block_sum<kThreads>(total);
  if (threadIdx.x != 0) return;
  state->gradient_norm = static_cast<float>(sqrt(total) / static_cast<double>(state->loss_scale));
  state->finite = std::isfinite(state->gradient_norm) ? 1 : 0;
}

std::int64_t chunks_of(const Tensor& tensor) {
  return tensor.empty() ? 0 : (tensor.size() + kChunk - 1) / kChunk;
}

}  // namespace

void CudaKernels::gradient_norm(StepState* state, std::span<const Tensor> gradients) {
  std::int64_t total = 0;
  for (const Tensor& gradient : gradients) {
    require(gradient.empty() || gradient.contiguous(), "gradient_norm: a gradient's rows must be adjacent");
    total += chunks_of(gradient);
  }
  auto* sums = static_cast<double*>(scratch(static_cast<std::size_t>(total) * sizeof(double)));
  std::int64_t done = 0;
  for (std::size_t begin = 0; begin < gradients.size(); begin += kMostTensors) {
    TensorList list{};
    std::int64_t chunks = 0;
    for (const Tensor& gradient : gradients.subspan(begin, std::min(kMostTensors, gradients.size() - begin))) {
      if (gradient.empty()) continue;
      list.data[list.count] = gradient.f32();
      list.size[list.count] = gradient.size();
      list.first_chunk[list.count++] = static_cast<int>(chunks);
      chunks += chunks_of(gradient);
    }
    if (chunks == 0) continue;
    launch("sum_squares", stream(), dim3(static_cast<unsigned>(chunks)), dim3(kThreads), 0, sum_squares_kernel, list,
           sums + done);
    done += chunks;
  }
  launch("gradient_norm", stream(), dim3(1), dim3(kThreads), 0, norm_kernel, state, static_cast<const double*>(sums),
         static_cast<int>(total));
}

}  // namespace ember
