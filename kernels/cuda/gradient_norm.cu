// The L2 norm over all gradients (Kernels::gradient_norm): a sum per chunk of kChunk elements, then the chunks' sums in
// a fixed order.
//
// One block per chunk of one tensor, 4 elements to a thread and turn; the block that comes last adds the chunks. Reads
// 4 bytes an element; about 8 operations. A thread sums squares in float, all beyond it is in double, which most GPUs
// are slow at. So that no thread's sum overflows and no square vanishes, those of large and small elements are scaled
// and summed apart, after Blue, "A portable Fortran program to find the Euclidean norm of a vector" (1978). Where the
// launches that computed the gradients have left sums of their squares (gradient_squares.h), one block adds those, and
// no gradient is read again.
#include <algorithm>
#include <cmath>

#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/work_list.cuh"
#include "kernels/require.h"
#include "runtime/ceil_div.h"
#include "runtime/cuda/launch.h"

namespace ember {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kChunk = 8192;
constexpr int kAtOnce = 8;         // vectors that a thread asks for before it adds the first
constexpr int kSumsAtOnce = 4;     // likewise, of chunks
constexpr int kMostTensors = 128;  // a launch: the list is a kernel's argument, which holds 4,096 bytes

struct TensorList {
  const float* data[kMostTensors];
  std::int64_t size[kMostTensors];
  int first_chunk[kMostTensors];
  int count;
};

struct Squares {
  static constexpr float kLarge = 0x1p+60f, kSmall = 0x1p-50f, kShrink = 0x1p-70f, kGrow = 0x1p+80f;
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
  // Nearly all are usual, which is soon seen of four.
  __device__ void add(const float (&x)[4]) {
    const float a = fabsf(x[0]), b = fabsf(x[1]), c = fabsf(x[2]), d = fabsf(x[3]);
    if (fmaxf(fmaxf(a, b), fmaxf(c, d)) <= kLarge && fminf(fminf(a, b), fminf(c, d)) >= kSmall) {
#pragma unroll
      for (const float value : x) usual += value * value;
    } else {
#pragma unroll
      for (const float value : x) add(value);
    }
  }
  __device__ double sum() const {
    return static_cast<double>(usual) + static_cast<double>(small) * 0x1p-160 + static_cast<double>(large) * 0x1p+140;
  }
};

__device__ double sum_of_chunk(const TensorList& list, int chunk) {
  if (list.count == 0) return 0;
  const int t = item_of(list.first_chunk, list.count, chunk);
  const std::int64_t begin = (chunk - list.first_chunk[t]) * kChunk;
  const float* data = list.data[t] + begin;
  const int size = static_cast<int>(min(kChunk, list.size[t] - begin));
  const int vectors = reinterpret_cast<std::uintptr_t>(data) % sizeof(float4) == 0 ? size / 4 : 0;
  Squares squares;
  int i = static_cast<int>(threadIdx.x);
  for (; i + (kAtOnce - 1) * kThreads < vectors; i += kAtOnce * kThreads) {
    float x[kAtOnce][4];
#pragma unroll
    for (int a = 0; a < kAtOnce; ++a) load<4>(x[a], data + 4 * (i + a * kThreads));
#pragma unroll
    for (const auto& four : x) squares.add(four);
  }
  for (; i < vectors; i += kThreads) {
    float x[4];
    load<4>(x, data + 4 * i);
    squares.add(x);
  }
  for (i = 4 * vectors + static_cast<int>(threadIdx.x); i < size; i += kThreads) squares.add(data[i]);
  return block_sum<kThreads>(squares.sum());
}

// The list's chunks are the sums from `first` on, one a block; with `state`, its launch is the last one, which ends
// with the norm of all `first` + gridDim.x.
__global__ void __launch_bounds__(kThreads) gradient_norm_kernel(const __grid_constant__ TensorList list, double* sums,
                                                                 int first, StepState* state, unsigned* arrived) {
  await_previous_grid();
  const int chunk = static_cast<int>(blockIdx.x);
  const double of_chunk = sum_of_chunk(list, chunk);
  if (threadIdx.x == 0) sums[first + chunk] = of_chunk;
  if (state == nullptr || !last_block(arrived)) return;
  double total = 0;
  const volatile double* all = sums;  // by blocks of other multiprocessors, past this one's cache
  const int count = first + static_cast<int>(gridDim.x);
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kSumsAtOnce * kThreads) {
    double some[kSumsAtOnce];
#pragma unroll
    for (int a = 0; a < kSumsAtOnce; ++a) some[a] = i + a * kThreads < count ? all[i + a * kThreads] : 0;
#pragma unroll
    for (const double sum : some) total += sum;
  }
  total = block_sum<kThreads>(total);
  if (threadIdx.x != 0) return;
  state->gradient_norm = static_cast<float>(sqrt(total) / static_cast<double>(state->loss_scale));
  state->finite = std::isfinite(state->gradient_norm) ? 1 : 0;
}

std::int64_t chunks_of(const Tensor& tensor) {
  return tensor.empty() ? 0 : ceil_div(tensor.size(), kChunk);
}

}  // namespace

void CudaKernels::gradient_norm(StepState* state, std::span<const Tensor> gradients) {
  for (const Tensor& gradient : gradients)
    require(gradient.empty() || gradient.contiguous(), "gradient_norm: a gradient's rows must be adjacent");
  const std::span<double> summed = deferred_.squares_of(gradients);
  double* sums = summed.data();
  if (summed.empty()) {
    std::int64_t total = 1;  // room for the chunk of a launch without gradients
    for (const Tensor& gradient : gradients) total += chunks_of(gradient);
    sums = static_cast<double*>(scratch(static_cast<std::size_t>(total) * sizeof(double)));
  } else {
    gradients = {};
  }
  unsigned* arrived = arrivals();
  auto done = std::ssize(summed);
  do {
    TensorList list{};
    std::int64_t chunks = 0;
    for (; !gradients.empty() && list.count < kMostTensors; gradients = gradients.subspan(1)) {
      const Tensor& gradient = gradients.front();
      if (gradient.empty()) continue;
      list.data[list.count] = gradient.f32();
      list.size[list.count] = gradient.size();
      list.first_chunk[list.count++] = static_cast<int>(chunks);
      chunks += chunks_of(gradient);
    }
    chunks = std::max<std::int64_t>(chunks, 1);  // without gradients, an empty one
    launch_early("gradient_norm", stream(), dim3(static_cast<unsigned>(chunks)), dim3(kThreads), 0,
                 gradient_norm_kernel, list, sums, static_cast<int>(done), gradients.empty() ? state : nullptr,
                 arrived);
    done += chunks;
  } while (!gradients.empty());
}

}  // namespace ember
