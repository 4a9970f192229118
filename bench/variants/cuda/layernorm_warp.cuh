// LayerNorm, rung 3: one warp for a row. The lanes exchange their partial sums in registers, five shuffles a sum, and
// no barrier is left: a warp that waits for memory holds up no other row.
//
// Rung 4: a lane reads 4 halves with one instruction (8 bytes) instead of one (2 bytes), and keeps its part of the row
// in registers: one read of the row instead of three, and a quarter of the instructions. The row's code is then the
// shipped kernel's (kernels/cuda/layernorm_row.cuh), whose instances with V = 4 keep up to 1,024 columns, above 384 by
// more than one warp a row.
#pragma once

#include "bench/variants/cuda/layernorm_unfused.cuh"

namespace ember::variants {

constexpr unsigned kRowThreads = kRowWarps * kWarpSize;

__device__ inline int row_of_warp() {
  return static_cast<int>(thread_in_grid()) / kWarpSize;
}

__global__ void __launch_bounds__(kRowThreads) layernorm_warp_kernel(LayerNormRows a) {
  const int row = row_of_warp(), first = static_cast<int>(threadIdx.x) % kWarpSize;
  if (row >= a.rows) return;
  float sum = 0, squares = 0;
  for (int c = first; c < a.cols; c += kWarpSize) sum += __half2float(a.x[row][c]);
  const float mean = warp_sum(sum) / static_cast<float>(a.cols);
  for (int c = first; c < a.cols; c += kWarpSize) {
    const float distance = __half2float(a.x[row][c]) - mean;
    squares += distance * distance;
  }
  const float rstd = 1 / sqrtf(warp_sum(squares) / static_cast<float>(a.cols) + a.norm.epsilon);
  if (first == 0) a.mean[row] = mean, a.rstd[row] = rstd;
  for (int c = first; c < a.cols; c += kWarpSize) a.write(row, c, {mean, rstd});
}

inline void layernorm_warp(Device& device, const LayerNormCall& a) {
  add_residual<1>(device, a);
  launch_threads(device, "layernorm_warp", a.out.rows * kWarpSize, kRowThreads, layernorm_warp_kernel,
                 LayerNormRows(a));
}

template <int V, int N, int W>
__global__ void __launch_bounds__(kRowThreads) layernorm_registers_kernel(LayerNormRows a) {
  const int row = static_cast<int>(blockIdx.x) * kBlockRows<W> + row_in_block<W>();
  if (row >= a.rows) return;
  Vector<V> x[kHeld<N>];
  if constexpr (N > 0) for_each_vector<V, N, W>(a.cols, [&](int i, int c) { load<V>(x[i], a.x[row] + c); });
  normalise_row<V, N, W>(x, a.x[row], a.cols, a.mean + row, a.rstd + row, a.norm,
                         [&](int c, const float(&y)[V]) { store<V>(a.out[row] + c, y); });
}

inline void layernorm_registers(Device& device, const LayerNormCall& a) {
  const bool wide = vectorises(4, {a.out, a.sum, a.in, a.residual, a.bias, a.norm.weight, a.norm.bias});
  wide ? add_residual<4>(device, a) : add_residual<1>(device, a);
  with_row_layout(a.out.cols, wide, [&](auto v, auto n, auto w) {
    launch_threads(device, "layernorm_registers", a.out.rows * w() * kWarpSize, kRowThreads,
                   layernorm_registers_kernel<v(), n(), w()>, LayerNormRows(a));
  });
}

}  // namespace ember::variants
