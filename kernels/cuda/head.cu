// The head in one kernel each way (Kernels::head_forward): tanh.cu's activation and the classifier's product, whose
// weight is so small that a block of its own for every sequence can read all of it.  (B, C), (B, K), weight (K, C).
//
// A block has one sequence. Forward leaves its row in shared memory; then a warp has a label, of up to 32 at a time,
// and its lanes every 32nd vector of columns. Backward a thread has a column, or 4 columns side by side, and adds the
// labels in order. Forward moves 6 B C + 2 B K C bytes, the weight from the second-level cache for all blocks but the
// first few, and does 2 B K C operations; backward 4 B C + 2 B K C bytes and as many operations, and 4 B C bytes for
// the parts of dbias. Up to kMostLabels labels and kMostColumns columns; beyond, tanh and a product are as good.
#include <array>

#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/dropout.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/require.h"
#include "runtime/cuda/launch.h"

namespace ember {
namespace {

constexpr int kThreads = 256, kForwardThreads = 1024;
constexpr int kMostLabels = 64, kMostColumns = 1024;

struct Forward {
  Rows<float> logits;
  Rows<__half> pooled, activated;
  Rows<const __half> in, weight;
  const float *bias, *weight_bias;
  DropoutMask mask;
  int labels, cols;
};

template <int V>
__device__ float times_row(const float* row, const __half* weight, int cols) {
  float sum = 0;
#pragma unroll 4
  for (int c = lane_index() * V; c < cols; c += kWarpSize * V) {
    float x[V], w[V];
    load<V>(w, weight + c);
    load<V>(x, row + c);
#pragma unroll
    for (int j = 0; j < V; ++j) sum += x[j] * w[j];
  }
  return warp_sum(sum);
}

template <int V>
__global__ void __launch_bounds__(kForwardThreads) head_kernel(const __grid_constant__ Forward a) {
  await_previous_grid();
  EMBER_SHARED(float, row, kMostColumns);
  const int b = static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x);
  for (int c = thread * V; c < a.cols; c += kForwardThreads * V) {
    float x[V], shift[V];
    load<V>(x, a.in[b] + c);
    load<V>(shift, a.bias + c);
#pragma unroll
    for (int j = 0; j < V; ++j) x[j] = tanhf(x[j] + shift[j]);
    store<V>(a.activated[b] + c, x);
    apply_dropout(x, a.mask, static_cast<std::int64_t>(b) * a.cols + c);
    store<V>(a.pooled[b] + c, x);
    round_to_half(x);
    store<V>(row + c, x);
  }
  __syncthreads();
  for (int k = thread / kWarpSize; k < a.labels; k += kForwardThreads / kWarpSize) {
    const float sum = times_row<V>(row, a.weight[k], a.cols);
    if (thread % kWarpSize == 0) a.logits[b][k] = sum + (a.weight_bias == nullptr ? 0.0f : a.weight_bias[k]);
  }
}

struct Backward {
  Rows<__half> din;
  float* parts;  // of dbias, one a sequence
  Rows<const __half> dlogits, activated, weight;
  DropoutMask mask;
  int labels, cols, part_stride;
};

template <int V>
__global__ void __launch_bounds__(kThreads) head_backward_kernel(const __grid_constant__ Backward a) {
  await_previous_grid();
  EMBER_SHARED(float, of_labels, kMostLabels);
  const int b = static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x);
  if (thread < a.labels) of_labels[thread] = __half2float(a.dlogits[b][thread]);
  __syncthreads();
  for (int c = thread * V; c < a.cols; c += kThreads * V) {
    float dx[V] = {}, y[V];
    for (int k = 0; k < a.labels; ++k) {
      float w[V];
      load<V>(w, a.weight[k] + c);
#pragma unroll
      for (int j = 0; j < V; ++j) dx[j] += of_labels[k] * w[j];
    }
    apply_dropout(dx, a.mask, static_cast<std::int64_t>(b) * a.cols + c);
    load<V>(y, a.activated[b] + c);
#pragma unroll
    for (int j = 0; j < V; ++j) dx[j] *= 1.0f - y[j] * y[j];
    store<V>(a.din[b] + c, dx);
    store<V>(a.parts + static_cast<std::int64_t>(b) * a.part_stride + c, dx);
  }
}

bool fits(const Tensor& weight) {
  return weight.rows <= kMostLabels && weight.cols <= kMostColumns;
}

}  // namespace

void CudaKernels::head_forward(Tensor logits, Tensor pooled, Tensor activated, Tensor in, Tensor bias, Tensor weight,
                               Tensor weight_bias, const Dropout& dropout) {
  const std::int64_t rows = pooled.rows, cols = pooled.cols, labels = weight.rows;
  require(all_have_shape({pooled, activated, in}, rows, cols, DType::f16) && has_shape(bias, 1, cols) &&
              has_shape(weight, labels, cols, DType::f16) && has_shape(logits, rows, labels) &&
              (weight_bias.empty() || has_shape(weight_bias, 1, labels)),
          "head_forward: shapes");
  if (!fits(weight)) return Kernels::head_forward(logits, pooled, activated, in, bias, weight, weight_bias, dropout);
  if (rows == 0) return;
  const Forward a{rows_of<float>(logits),
                  rows_of<__half>(pooled),
                  rows_of<__half>(activated),
                  rows_of<const __half>(in),
                  rows_of<const __half>(weight),
                  bias.f32(),
                  weight_bias.empty() ? nullptr : weight_bias.f32(),
                  DropoutMask(dropout),
                  static_cast<int>(labels),
                  static_cast<int>(cols)};
  launch_early("head", stream(), dim3(static_cast<unsigned>(rows)), dim3(kForwardThreads), 0,
               vectorises(4, {pooled, activated, in, bias, weight}) ? head_kernel<4> : head_kernel<1>, a);
}

void CudaKernels::head_backward(Tensor din, Tensor dbias, Tensor dlogits, Tensor activated, Tensor weight,
                                const Dropout& dropout) {
  const std::int64_t rows = din.rows, cols = din.cols, labels = weight.rows;
  require(all_have_shape({din, activated}, rows, cols, DType::f16) && has_shape(dbias, 1, cols) &&
              has_shape(weight, labels, cols, DType::f16) && has_shape(dlogits, rows, labels, DType::f16),
          "head_backward: shapes");
  if (!fits(weight)) return Kernels::head_backward(din, dbias, dlogits, activated, weight, dropout);
  const std::array sums{dbias};
  if (rows == 0) return deferred_.add_parts(sums, nullptr, 0);
  float* parts = deferred_.keep_parts(rows, 1, cols);
  const Backward a{rows_of<__half>(din),
                   parts,
                   rows_of<const __half>(dlogits),
                   rows_of<const __half>(activated),
                   rows_of<const __half>(weight),
                   DropoutMask(dropout),
                   static_cast<int>(labels),
                   static_cast<int>(cols),
                   static_cast<int>(part_stride(cols))};
  launch_early("head_backward", stream(), dim3(static_cast<unsigned>(rows)), dim3(kThreads), 0,
               vectorises(4, {din, activated, weight}) ? head_backward_kernel<4> : head_backward_kernel<1>, a);
  deferred_.add_parts(sums, parts, rows);
}

}  // namespace ember
