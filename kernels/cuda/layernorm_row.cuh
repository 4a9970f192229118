// LayerNorm of one row by W warps of a block, shared by the operations that contain one (Ba, Kiros and Hinton, "Layer
// normalization", 2016). A lane works on vectors of V elements, 32 W V elements apart: at most N of them, which stay in
// registers from pass to pass; with N = 0, by one warp, any number, which every pass reads again. Wide rows have more
// warps rather than more vectors, since a lane's registers decide how many warps there are to hide each other's waits.
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

template <int W>
constexpr int kBlockRows = kRowWarps / W;  // rows that a block has at a time

// Of the calling thread: its row of the block's, and its lane of the row's.
template <int W>
__device__ int row_in_block() {
  return static_cast<int>(threadIdx.x) / (W * kWarpSize);
}
template <int W>
__device__ int lane_in_row() {
  return static_cast<int>(threadIdx.x) % (W * kWarpSize);
}

// visit(i, c): the lane's vectors, at columns [c, c + V), with i its place in registers.
template <int V, int N, int W, typename Visit>
__device__ void for_each_vector(int cols, const Visit& visit) {
  constexpr int kStep = W * kWarpSize * V;
  const int first = lane_in_row<W>() * V;
  if constexpr (N > 0) {
#pragma unroll
    for (int i = 0; i < N; ++i)
      if (first + i * kStep < cols) visit(i, first + i * kStep);
  } else {
    for (int c = first; c < cols; c += kStep) visit(0, c);
  }
}

// The sums of x[k] over a row's lanes, in all of them. Calls of the same K by a row's warps take turns 0 and 1: who has
// passed the barrier of one turn no longer reads what the other left.
template <int W, int K>
__device__ void row_sums(float (&x)[K], int turn) {
#pragma unroll
  for (float& value : x) value = warp_sum(value);
  if constexpr (W > 1) {
    EMBER_SHARED(float, of_warps, 2 * kRowWarps * K);
    float* all = of_warps + turn * kRowWarps * K;
    const int warp = static_cast<int>(threadIdx.x) / kWarpSize, row = row_in_block<W>();
#pragma unroll
    for (int k = 0; k < K; ++k)
      if (lane_index() == 0) all[warp * K + k] = x[k];
    barrier_of_warps<kBlockRows<W>, W>(row);
#pragma unroll
    for (int k = 0; k < K; ++k) {
      x[k] = all[row * W * K + k];
#pragma unroll
      for (int w = 1; w < W; ++w) x[k] += all[(row * W + w) * K + k];
    }
  }
}

struct RowMoments {
  float mean, rstd;
};

// Of the row x, which also lies at `stored`. Two passes, since the mean of squares less the square of the mean would
// cancel.
template <int V, int N, int W>
__device__ RowMoments row_moments(Vector<V> (&x)[kHeld<N>], const __half* stored, int cols, float epsilon) {
  float sum[1] = {0}, squares[1] = {0};
  for_each_vector<V, N, W>(cols, [&](int i, int c) {
    if (N == 0) load<V>(x[i], stored + c);
#pragma unroll
    for (float value : x[i]) sum[0] += value;
  });
  row_sums<W>(sum, 0);
  const float mean = sum[0] / static_cast<float>(cols);
  for_each_vector<V, N, W>(cols, [&](int i, int c) {
    if (N == 0) load<V>(x[i], stored + c);
#pragma unroll
    for (float value : x[i]) squares[0] += (value - mean) * (value - mean);
  });
  row_sums<W>(squares, 1);
  return {mean, 1.0f / sqrtf(squares[0] / static_cast<float>(cols) + epsilon)};
}

struct LayerNormParameters {
  const float *weight, *bias;
  float epsilon;
};

// Saves the moments of x, which also lies at `stored`, and calls write(c, y) with y = (x - mean) rstd weight + bias.
// Once in a block.
template <int V, int N, int W, typename Write>
__device__ void normalise_row(Vector<V> (&x)[kHeld<N>], const __half* stored, int cols, float* mean, float* rstd,
                              const LayerNormParameters& norm, const Write& write) {
  Vector<V> weight[kHeld<N>], y[kHeld<N>];
  const auto ask = [&](int i, int c) {
    load<V>(weight[i], norm.weight + c);
    load<V>(y[i], norm.bias + c);
  };
  if (N > 0) for_each_vector<V, N, W>(cols, ask);  // on their way while the lanes add
  const RowMoments moments = row_moments<V, N, W>(x, stored, cols, norm.epsilon);
  if (lane_in_row<W>() == 0) {
    *mean = moments.mean;
    *rstd = moments.rstd;
  }
  for_each_vector<V, N, W>(cols, [&](int i, int c) {
    if (N == 0) load<V>(x[i], stored + c), ask(i, c);
#pragma unroll
    for (int j = 0; j < V; ++j) y[i][j] += (x[i][j] - moments.mean) * moments.rstd * weight[i][j];
    write(c, y[i]);
  });
}

// The sums of S vectors over the rows that W warps pass: in registers, or for N = 0 in memory of the warp's own.
template <int V, int N, int W, int S>
class RowTotals {
 public:
  // `parts`: (gridDim.x, S, stride) floats, or (gridDim.x * kRowWarps, S, stride) for N = 0.
  __device__ RowTotals(float* parts, int cols, int stride) : parts_(parts), cols_(cols), stride_(stride) {
    for_each_vector<V, N, W>(cols, [&](int i, int c) {
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

  // Adds the sums of the block's rows in order. All threads call; needs kBlockRows<W> stride floats of dynamic shared
  // memory unless N = 0.
  __device__ void write_part() {
    if constexpr (N > 0) {
      EMBER_DYNAMIC_SHARED(memory);
      auto* of_rows = reinterpret_cast<float*>(memory);
#pragma unroll
      for (int s = 0; s < S; ++s) {
        if (s > 0) __syncthreads();
        for_each_vector<V, N, W>(
            cols_, [&](int i, int c) { store<V>(of_rows + row_in_block<W>() * stride_ + c, totals_[s][i]); });
        __syncthreads();
        for (int c = static_cast<int>(threadIdx.x); c < cols_; c += kRowWarps * kWarpSize) {
          float total = 0;
          for (int r = 0; r < kBlockRows<W>; ++r) total += of_rows[r * stride_ + c];
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
// 0 and 1 receive dy y and dy. turn: of row_sums.
template <int V, int N, int W, int S, typename Adjust, typename Write>
__device__ void normalise_row_backward(RowTotals<V, N, W, S>& totals, const LayerNormBackward& a, std::int64_t row,
                                       int turn, const Adjust& adjust, const Write& write) {
  const float mean = a.mean[row], rstd = a.rstd[row];
  BackwardVectors<V, N> from;
  Vector<V> y[kHeld<N>], dy[kHeld<N>];
  const auto read = [&](int i, int c) {
    if (N == 0) from.ask(a, row, i, c);
    from.get(y[i], dy[i], i);
    adjust(c, dy[i]);
#pragma unroll
    for (float& value : y[i]) value = (value - mean) * rstd;
  };
  if (N > 0) for_each_vector<V, N, W>(a.cols, [&](int i, int c) { from.ask(a, row, i, c); });
  float sums[2] = {0, 0};  // of g and of g y
  for_each_vector<V, N, W>(a.cols, [&](int i, int c) {
    read(i, c);
    float dweight[V];
#pragma unroll
    for (int j = 0; j < V; ++j) {
      const float g = dy[i][j] * from.weight[i][j];
      sums[0] += g;
      sums[1] += g * y[i][j];
      dweight[j] = dy[i][j] * y[i][j];
    }
    totals.add(0, i, c, dweight);
    totals.add(1, i, c, dy[i]);
  });
  row_sums<W>(sums, turn);
  const float mean_g = sums[0] / static_cast<float>(a.cols), mean_gy = sums[1] / static_cast<float>(a.cols);
  for_each_vector<V, N, W>(a.cols, [&](int i, int c) {
    if (N == 0) read(i, c);
    float dx[V];
#pragma unroll
    for (int j = 0; j < V; ++j) dx[j] = rstd * (dy[i][j] * from.weight[i][j] - mean_g - y[i][j] * mean_gy);
    write(i, c, dx);
  });
}

// A kernel's body: all rows, by adjust(row, c, dy) as above; write(row, c, dx) leaves in dx what is added as the third
// sum.
template <int V, int N, int W, typename Adjust, typename Write>
__device__ void normalise_backward(const LayerNormBackward& a, const Adjust& adjust, const Write& write) {
  RowTotals<V, N, W, 3> totals(a.parts, a.cols, a.part_stride);
  int turn = 0;
  for (int row = static_cast<int>(blockIdx.x) * kBlockRows<W> + row_in_block<W>(); row < a.rows;
       row += static_cast<int>(gridDim.x) * kBlockRows<W>) {
    normalise_row_backward<V, N, W>(
        totals, a, row, turn, [&](int c, float(&dy)[V]) { adjust(row, c, dy); },
        [&](int i, int c, float(&dx)[V]) {
          write(row, c, dx);
          totals.add(2, i, c, dx);
        });
    turn = 1 - turn;
  }
  totals.write_part();
}

// Calls run(V, N, W), as compile-time constants, of the cheapest row that fits: vectors of 4 where `aligned`, in
// registers up to 1,024 columns.
template <typename Run>
void with_row_layout(std::int64_t cols, bool aligned, const Run& run) {
  constexpr std::integral_constant<int, 0> any;
  constexpr std::integral_constant<int, 1> one;
  constexpr std::integral_constant<int, 2> two;
  constexpr std::integral_constant<int, 3> three;
  constexpr std::integral_constant<int, 4> four;
  if (!aligned)
    run(one, any, one);
  else if (cols <= 384)
    run(four, three, one);
  else if (cols <= 768)
    run(four, three, two);
  else if (cols <= 1024)
    run(four, two, four);
  else
    run(four, any, one);
}

// Calls launch(V, N, W, blocks, bytes of shared memory, arguments) of a kernel of normalise_backward, whose `sums` are
// then added with the gradients that wait. dout, dbranch, sum: (M, C), dbranch may be empty. aligned: as for
// with_row_layout.
template <typename Launch>
void layernorm_backward(DeferredGradients& deferred, const std::array<Tensor, 3>& sums, Tensor dout, Tensor dbranch,
                        Tensor sum, Moments moments, Tensor weight, bool aligned, const Launch& launch) {
  if (dout.empty()) return deferred.add_parts(sums, nullptr, 0);
  with_row_layout(dout.cols, aligned, [&](auto v, auto n, auto w) {
    const unsigned blocks = std::min(blocks_for(dout.rows, kBlockRows<w()>), kMostParts);
    const std::int64_t parts = std::int64_t{blocks} * (n() > 0 ? 1 : kRowWarps);
    const LayerNormBackward a{rows_of<const __half>(dout),
                              rows_of<const __half>(dbranch.empty() ? Tensor{} : dbranch),
                              rows_of<const __half>(sum),
                              moments.mean.f32(),
                              moments.rstd.f32(),
                              weight.f32(),
                              deferred.keep_parts(parts, 3, dout.cols),
                              static_cast<int>(dout.rows),
                              static_cast<int>(dout.cols),
                              static_cast<int>(part_stride(dout.cols))};
    launch(v, n, w, dim3(blocks), n() > 0 ? part_bytes(kBlockRows<w()>, 1, dout.cols) : 0, a);
    deferred.add_parts(sums, a.parts, parts);
  });
}

}  // namespace ember
