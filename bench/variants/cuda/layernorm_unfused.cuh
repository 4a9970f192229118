// The first of the two launches of LayerNorm's rungs 1 to 4, sum = residual + dropout(in + bias), one thread for V
// elements, and the operands of their second, out = LayerNorm(sum). Unfused they move 10 bytes an element (the sum is
// written and read again) where 8 would do.
#pragma once

#include "bench/variants/cuda/device.cuh"
#include "bench/variants/ladder.h"
#include "kernels/cuda/dropout.cuh"
#include "kernels/cuda/layernorm_row.cuh"

namespace ember::variants {

struct LayerNormRows {
  explicit LayerNormRows(const LayerNormCall& a)
      : out(rows_of<__half>(a.out)),
        x(rows_of<const __half>(a.sum)),
        mean(a.moments.mean.f32()),
        rstd(a.moments.rstd.f32()),
        norm{a.norm.weight.f32(), a.norm.bias.f32(), a.epsilon},
        rows(static_cast<int>(a.out.rows)),
        cols(static_cast<int>(a.out.cols)) {}

  // One element of the output.
  __device__ void write(int row, int c, RowMoments moments) const {
    const float y = (__half2float(x[row][c]) - moments.mean) * moments.rstd;
    out[row][c] = __float2half_rn(y * norm.weight[c] + norm.bias[c]);
  }

  Rows<__half> out;
  Rows<const __half> x;
  float *mean, *rstd;
  LayerNormParameters norm;
  int rows, cols;
};

template <int V>
__global__ void add_residual_kernel(Rows<__half> sum, Rows<const __half> in, const float* bias,
                                    Rows<const __half> residual, DropoutMask mask, int rows, int cols) {
  const std::int64_t element = thread_in_grid() * V;
  if (element >= static_cast<std::int64_t>(rows) * cols) return;
  const std::int64_t row = element / cols, c = element % cols;
  float x[V], shift[V], add[V];
  load<V>(x, in[row] + c);
  load<V>(shift, bias + c);
  load<V>(add, residual[row] + c);
#pragma unroll
  for (int j = 0; j < V; ++j) x[j] += shift[j];
  apply_dropout(x, mask, element);
#pragma unroll
  for (int j = 0; j < V; ++j) x[j] += add[j];
  store<V>(sum[row] + c, x);
}

template <int V>
void add_residual(Device& device, const LayerNormCall& a) {
  launch_threads(device, "add_residual", a.out.size() / V, 256, add_residual_kernel<V>, rows_of<__half>(a.sum),
                 rows_of<const __half>(a.in), static_cast<const float*>(a.bias.f32()),
                 rows_of<const __half>(a.residual), DropoutMask(a.dropout), static_cast<int>(a.out.rows),
                 static_cast<int>(a.out.cols));
}

}  // namespace ember::variants
