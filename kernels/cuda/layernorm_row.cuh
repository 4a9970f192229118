// LayerNorm of one row by one warp, shared by the operations that contain one (Ba, Kiros and Hinton, "Layer
// normalization", 2016). A lane works on vectors of V elements, 32 V elements apart: at most N of them, which stay in
// registers from pass to pass; with N = 0 any number, which every pass reads again.
#pragma once

#include <cstdint>
#include <type_traits>

#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vector_io.cuh"

namespace ember {

template <int N>
constexpr int kHeld = N > 0 ? N : 1;  // vectors in registers

template <int V>
using Vector = float[V];

// visit(i, c): the lane's vectors, at columns [c, c + V), with i its place in registers.
template <int V, int N, typename Visit>
__device__ void for_each_vector(int cols, const Visit& visit) {
  const int first = static_cast<int>(threadIdx.x) % kWarpSize * V;
  if constexpr (N > 0) {
#pragma unroll
    for (int i = 0; i < N; ++i)
      if (first + i * kWarpSize * V < cols) visit(i, first + i * kWarpSize * V);
  } else {
    for (int c = first; c < cols; c += kWarpSize * V) visit(0, c);
  }
}

struct RowMoments {
  float mean, rstd;
};

// Of the row x, which also lies at `stored`. Two passes, since the mean of squares less the square of the mean would
// cancel.
template <int V, int N>
__device__ RowMoments row_moments(Vector<V> (&x)[kHeld<N>], const __half* stored, int cols, float epsilon) {
  float sum = 0, squares = 0;
  for_each_vector<V, N>(cols, [&](int i, int c) {
    if (N == 0) load<V>(x[i], stored + c);
#pragma unroll
    for (float value : x[i]) sum += value;
  });
  const float mean = warp_sum(sum) / static_cast<float>(cols);
  for_each_vector<V, N>(cols, [&](int i, int c) {
    if (N == 0) load<V>(x[i], stored + c);
#pragma unroll
    for (float value : x[i]) squares += (value - mean) * (value - mean);
  });
  return {mean, 1.0f / sqrtf(warp_sum(squares) / static_cast<float>(cols) + epsilon)};
}

struct LayerNormParameters {
  const float *weight, *bias;
  float epsilon;
};

// Saves the moments of x, which also lies at `stored`, and calls write(c, y) with y = (x - mean) rstd weight + bias.
template <int V, int N, typename Write>
__device__ void normalise_row(Vector<V> (&x)[kHeld<N>], const __half* stored, int cols, float* mean, float* rstd,
                              const LayerNormParameters& norm, const Write& write) {
  const RowMoments moments = row_moments<V, N>(x, stored, cols, norm.epsilon);
  if (threadIdx.x % kWarpSize == 0) {
    *mean = moments.mean;
    *rstd = moments.rstd;
  }
  for_each_vector<V, N>(cols, [&](int i, int c) {
    if (N == 0) load<V>(x[i], stored + c);
    float weight[V], y[V];
    load<V>(weight, norm.weight + c);
    load<V>(y, norm.bias + c);
#pragma unroll
    for (int j = 0; j < V; ++j) y[j] += (x[i][j] - moments.mean) * moments.rstd * weight[j];
    write(c, y);
  });
}

// A warp's sums of S vectors over the rows it passes: in registers, or for N = 0 in memory of the warp's own.
template <int V, int N, int S>
class WarpTotals {
 public:
  // `parts`: (gridDim.x, S, stride) floats, or (gridDim.x * kRowWarps, S, stride) for N = 0.
  __device__ WarpTotals(float* parts, int cols, int stride) : parts_(parts), cols_(cols), stride_(stride) {
    for_each_vector<V, N>(cols, [&](int i, int c) {
#pragma unroll
      for (int s = 0; s < S; ++s) {
#pragma unroll
        for (float& total : totals_[s][i]) total = 0;
        if (N == 0) store<V>(own(s) + c, totals_[s][i]);
      }
    });
  }

  // Adds to columns [c, c + V) of sum `s`.
  __device__ void add(int s, int i, int c, const float (&x)[V]) {
    if (N == 0) load<V>(totals_[s][i], own(s) + c);
#pragma unroll
    for (int j = 0; j < V; ++j) totals_[s][i][j] += x[j];
    if (N == 0) store<V>(own(s) + c, totals_[s][i]);
  }

  // Adds the sums of the block's warps in order. All threads call; needs kRowWarps stride floats of dynamic shared
  // memory unless N = 0.
  __device__ void write_part() {
    if constexpr (N > 0) {
      EMBER_DYNAMIC_SHARED(memory);
      auto* of_warps = reinterpret_cast<float*>(memory);
      const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
#pragma unroll
      for (int s = 0; s < S; ++s) {
        if (s > 0) __syncthreads();
        for_each_vector<V, N>(cols_, [&](int i, int c) { store<V>(of_warps + warp * stride_ + c, totals_[s][i]); });
        __syncthreads();
        for (int c = static_cast<int>(threadIdx.x); c < cols_; c += kRowWarps * kWarpSize) {
          float total = 0;
          for (int w = 0; w < kRowWarps; ++w) total += of_warps[w * stride_ + c];
          parts_[(static_cast<std::int64_t>(blockIdx.x) * S + s) * stride_ + c] = total;
        }
      }
    }
  }

 private:
  __device__ float* own(int s) const {
    const std::int64_t warp = static_cast<std::int64_t>(blockIdx.x) * kRowWarps + threadIdx.x / kWarpSize;
    return parts_ + (warp * S + s) * stride_;
  }

  float* parts_;
  int cols_, stride_;
  Vector<V> totals_[S][kHeld<N>];
};

// The gradient of a LayerNorm's output at column c: dout + dbranch, or dout where dbranch is null.
template <int V>
__device__ void load_gradient(float (&dy)[V], const __half* dout, const __half* dbranch, int c) {
  Halves<V> one, other{};
  one.ask(dout + c);
  if (dbranch != nullptr) other.ask(dbranch + c);
  float add[V];
  one.get(dy);
  other.get(add);
#pragma unroll
  for (int j = 0; j < V; ++j) dy[j] += add[j];
}

// Through a LayerNorm's row. x: what was normalised; gradient(c, dy): the gradient of its output, asked for twice when
// N = 0; write(i, c, dx): with y = (x - mean) rstd and g = dy weight, dx = rstd (g - mean of g - y (mean of g y)).
// totals 0 and 1 receive dy y and dy.
template <int V, int N, int S, typename Gradient, typename Write>
__device__ void normalise_row_backward(WarpTotals<V, N, S>& totals, const __half* x, RowMoments moments,
                                       const float* weight, int cols, const Gradient& gradient, const Write& write) {
  Vector<V> y[kHeld<N>], dy[kHeld<N>];
  const auto read = [&](int i, int c) {
    Halves<V> from;
    from.ask(x + c);
    gradient(c, dy[i]);
    from.get(y[i]);
#pragma unroll
    for (float& value : y[i]) value = (value - moments.mean) * moments.rstd;
  };
  float sum_g = 0, sum_gy = 0;
  for_each_vector<V, N>(cols, [&](int i, int c) {
    read(i, c);
    float w[V], dweight[V];
    load<V>(w, weight + c);
#pragma unroll
    for (int j = 0; j < V; ++j) {
      const float g = dy[i][j] * w[j];
      sum_g += g;
      sum_gy += g * y[i][j];
      dweight[j] = dy[i][j] * y[i][j];
    }
    totals.add(0, i, c, dweight);
    totals.add(1, i, c, dy[i]);
  });
  const float mean_g = warp_sum(sum_g) / static_cast<float>(cols),
              mean_gy = warp_sum(sum_gy) / static_cast<float>(cols);
  for_each_vector<V, N>(cols, [&](int i, int c) {
    if (N == 0) read(i, c);
    float w[V], dx[V];
    load<V>(w, weight + c);
#pragma unroll
    for (int j = 0; j < V; ++j) dx[j] = moments.rstd * (dy[i][j] * w[j] - mean_g - y[i][j] * mean_gy);
    write(i, c, dx);
  });
}

// Calls run(V, N), as compile-time constants, of the cheapest row that fits: vectors of 4 where `aligned`, in registers
// up to 1,024 columns.
template <typename Run>
void with_row_layout(std::int64_t cols, bool aligned, const Run& run) {
  constexpr auto one = std::integral_constant<int, 1>{};
  constexpr auto four = std::integral_constant<int, 4>{};
  if (!aligned)
    run(one, std::integral_constant<int, 0>{});
  else if (cols <= 3 * 4 * kWarpSize)
    run(four, std::integral_constant<int, 3>{});
  else if (cols <= 6 * 4 * kWarpSize)
    run(four, std::integral_constant<int, 6>{});
  else if (cols <= 8 * 4 * kWarpSize)
    run(four, std::integral_constant<int, 8>{});
  else
    run(four, std::integral_constant<int, 0>{});
}

// What the first stage of a row-wise backward needs for S sums.
struct RowSums {
  RowSums(std::int64_t rows, std::int64_t cols, int sums, bool in_registers)
      : blocks(part_blocks(rows)),
        count(blocks * (in_registers ? 1 : kRowWarps)),
        bytes(part_bytes(count, sums, cols)),
        shared_bytes(in_registers ? part_bytes(kRowWarps, 1, cols) : 0) {}
  std::int64_t blocks, count;
  std::size_t bytes, shared_bytes;
};

}  // namespace ember
