// LayerNorm of one row by one warp, shared by the operations that contain one (Ba, Kiros and Hinton, "Layer
// normalization", 2016). A lane works on vectors of V elements, 32 V elements apart: at most N of them, which stay in
// registers from pass to pass; with N = 0 any number, which every pass reads again.
#pragma once

#include <array>
#include <cstdint>
#include <type_traits>

#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/deferred_gradients.h"
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
  const int first = lane_index() * V;
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
  Vector<V> weight[kHeld<N>], y[kHeld<N>];
  const auto ask = [&](int i, int c) {
    load<V>(weight[i], norm.weight + c);
    load<V>(y[i], norm.bias + c);
  };
  if (N > 0) for_each_vector<V, N>(cols, ask);  // on their way while the lanes add
  const RowMoments moments = row_moments<V, N>(x, stored, cols, norm.epsilon);
  if (threadIdx.x % kWarpSize == 0) {
    *mean = moments.mean;
    *rstd = moments.rstd;
  }
  for_each_vector<V, N>(cols, [&](int i, int c) {
    if (N == 0) load<V>(x[i], stored + c), ask(i, c);
#pragma unroll
    for (int j = 0; j < V; ++j) y[i][j] += (x[i][j] - moments.mean) * moments.rstd * weight[i][j];
    write(c, y[i]);
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

// What the backward of an operation with a LayerNorm in it reads, and where its column sums go: of the LayerNorm's
// dweight and dbias, and of what the operation adds.
struct LayerNormBackward {
  Rows<const __half> dout, dbranch, sum;  // dbranch may be null
  const float *mean, *rstd, *weight;
  float* parts;
  int rows, cols, part_stride;
};

// Whether a lane of LayerNorm's backward asks for its share of a row before it uses any. For 8 vectors there are not
// registers enough.
template <int N>
constexpr bool kAsksFirst = N > 0 && N <= 6;

// Vectors of a row that LayerNorm's backward reads.
template <int V, int N>
struct BackwardVectors {
  Halves<V> dout[kHeld<N>], dbranch[kHeld<N>], sum[kHeld<N>];
  Vector<V> weight[kHeld<N>];

  __device__ void ask(const LayerNormBackward& a, std::int64_t row, int i, int c) {
    sum[i].ask(a.sum[row] + c);
    dout[i].ask(a.dout[row] + c);
    dbranch[i] = {};
    if (a.dbranch.data != nullptr) dbranch[i].ask(a.dbranch[row] + c);
    load<V>(weight[i], a.weight + c);
  }
  // x = sum, dy = dout + dbranch.
  __device__ void get(float (&x)[V], float (&dy)[V], int i) const {
    float add[V];
    sum[i].get(x);
    dout[i].get(dy);
    dbranch[i].get(add);
#pragma unroll
    for (int j = 0; j < V; ++j) dy[j] += add[j];
  }
};

// Through a LayerNorm's row, whose output's gradient is adjust(c, dy) of dout + dbranch, asked for twice when N = 0,
// and write(i, c, dx): with y = (x - mean) rstd and g = dy weight, dx = rstd (g - mean of g - y (mean of g y)). totals
// 0 and 1 receive dy y and dy.
template <int V, int N, int S, typename Adjust, typename Write>
__device__ void normalise_row_backward(WarpTotals<V, N, S>& totals, const LayerNormBackward& a, std::int64_t row,
                                       const Adjust& adjust, const Write& write) {
  const float mean = a.mean[row], rstd = a.rstd[row];
  BackwardVectors<V, N> from;
  Vector<V> y[kHeld<N>], dy[kHeld<N>];
  const auto read = [&](int i, int c) {
    if (!kAsksFirst<N>) from.ask(a, row, i, c);
    from.get(y[i], dy[i], i);
    adjust(c, dy[i]);
#pragma unroll
    for (float& value : y[i]) value = (value - mean) * rstd;
  };
  if (kAsksFirst<N>) for_each_vector<V, N>(a.cols, [&](int i, int c) { from.ask(a, row, i, c); });
  float sum_g = 0, sum_gy = 0;
  for_each_vector<V, N>(a.cols, [&](int i, int c) {
    read(i, c);
    float dweight[V];
#pragma unroll
    for (int j = 0; j < V; ++j) {
      const float g = dy[i][j] * from.weight[i][j];
      sum_g += g;
      sum_gy += g * y[i][j];
      dweight[j] = dy[i][j] * y[i][j];
    }
    totals.add(0, i, c, dweight);
    totals.add(1, i, c, dy[i]);
  });
  const float mean_g = warp_sum(sum_g) / static_cast<float>(a.cols),
              mean_gy = warp_sum(sum_gy) / static_cast<float>(a.cols);
  for_each_vector<V, N>(a.cols, [&](int i, int c) {
    if (N == 0)
      read(i, c);
    else if (!kAsksFirst<N>)
      load<V>(from.weight[i], a.weight + c);
    float dx[V];
#pragma unroll
    for (int j = 0; j < V; ++j) dx[j] = rstd * (dy[i][j] * from.weight[i][j] - mean_g - y[i][j] * mean_gy);
    write(i, c, dx);
  });
}

// A kernel's body: all rows, by adjust(row, c, dy) as above; write(row, c, dx) leaves in dx what is added as the third
// sum.
template <int V, int N, typename Adjust, typename Write>
__device__ void normalise_backward(const LayerNormBackward& a, const Adjust& adjust, const Write& write) {
  WarpTotals<V, N, 3> totals(a.parts, a.cols, a.part_stride);
  const int warp = static_cast<int>(blockIdx.x) * kRowWarps + static_cast<int>(threadIdx.x) / kWarpSize;
  for (int row = warp; row < a.rows; row += static_cast<int>(gridDim.x) * kRowWarps)
    normalise_row_backward<V, N>(
        totals, a, row, [&](int c, float(&dy)[V]) { adjust(row, c, dy); },
        [&](int i, int c, float(&dx)[V]) {
          write(row, c, dx);
          totals.add(2, i, c, dx);
        });
  totals.write_part();
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

// Calls launch(V, N, blocks, bytes of shared memory, arguments) of a kernel of normalise_backward, whose `sums` are
// then added with the gradients that wait. dout, dbranch, sum: (M, C), dbranch may be empty. aligned: as for
// with_row_layout.
template <typename Launch>
void layernorm_backward(DeferredGradients& deferred, const std::array<Tensor, 3>& sums, Tensor dout, Tensor dbranch,
                        Tensor sum, Moments moments, Tensor weight, bool aligned, const Launch& launch) {
  if (dout.empty()) return deferred.add_parts(sums, nullptr, 0);
  with_row_layout(dout.cols, aligned, [&](auto v, auto n) {
    const std::int64_t blocks = part_blocks(dout.rows), parts = blocks * (n() > 0 ? 1 : kRowWarps);
    const LayerNormBackward a{rows_of<const __half>(dout),
                              rows_of<const __half>(dbranch),
                              rows_of<const __half>(sum),
                              moments.mean.f32(),
                              moments.rstd.f32(),
                              weight.f32(),
                              deferred.keep_parts(parts, 3, dout.cols),
                              static_cast<int>(dout.rows),
                              static_cast<int>(dout.cols),
                              static_cast<int>(part_stride(dout.cols))};
    launch(v, n, dim3(static_cast<unsigned>(blocks)), n() > 0 ? part_bytes(kRowWarps, 1, dout.cols) : 0, a);
    deferred.add_parts(sums, a.parts, parts);
  });
}

}  // namespace ember
