// Attention's backward where a block has all rows of its head, at most kRows: one pass. A warp computes P and dP of 16
// queries, which stay in its registers, and their dQ; it leaves P M and dS in shared memory, and then sums dV and dK of
// 16 keys over all queries from there, so that every sum still has one owner and a fixed order.
//
// dS of all queries enters dK with one 2^k, from the largest bound among them. P M takes the place of the values, dS
// that of the keys, when all have read those.
#pragma once

#include "kernels/cuda/attention_backward.cuh"
#include "kernels/cuda/reduce.cuh"

namespace ember::attention {

// Of P M and dS in shared memory, a query a row.
template <int kRows>
constexpr int kScoreStride = tile_stride(kRows);

// Puts the `steps` times 8 columns of a warp's 16 rows into a tile of scores.
template <int kRows>
__device__ inline void write_scores(std::uint16_t* tile, const float (&x)[kRows / kColumns][4], int steps) {
  std::uint16_t* row = tile + (warp_row() + lane_row()) * kScoreStride<kRows> + lane_column();
#pragma unroll
  for (int n = 0; n < kRows / kColumns; ++n) {
    if (n >= steps) break;
    *reinterpret_cast<std::uint32_t*>(row + n * kColumns) = pack(x[n]);
    *reinterpret_cast<std::uint32_t*>(row + 8 * kScoreStride<kRows> + n * kColumns) = pack(x[n] + 2);
  }
}

// to = factor scoresᵀ rows of the warp's 16 keys, of which there are key_rows, over the first `count` queries.
template <int kDim, int kRows>
__device__ inline void store_sum_over_queries(const HalfRows& to, const std::uint16_t* scores,
                                              const std::uint16_t* rows, int count, float factor, int key_rows) {
  const int lane = lane_index();
  float d[kDim / 8][4];
  clear<kDim>(d);
#pragma unroll 1
  for (int q = 0; q < count; q += kWarpRows) {
    std::uint32_t a[4];  // keys 0 to 7 and 8 to 15 of 8 queries, and of the next 8
    ldmatrix_x4_trans(a, scores + (q + lane % 8 + lane / 16 * 8) * kScoreStride<kRows> + warp_row() + lane / 8 % 2 * 8);
    add_product<kDim>(d, {a[0], a[1]}, rows + q * kTileStride<kDim>);
    add_product<kDim>(d, {a[2], a[3]}, rows + (q + 8) * kTileStride<kDim>);
  }
  const float factors[2] = {factor, factor};
  scale_rows<kDim>(d, factors);
  store<kDim>(to, d, key_rows);
}

// The largest of the warps' bounds; by all threads. `bounds`: shared memory for kWarps floats.
__device__ inline float largest_of_block(float bound, float* bounds) {
  bound = warp_max(bound);
  const int warps = static_cast<int>(blockDim.x) / kWarpSize;
  if (lane_index() == 0) bounds[threadIdx.x / kWarpSize] = bound;
  __syncthreads();
  for (int w = 0; w < warps; ++w) bound = fmaxf(bound, bounds[w]);
  return bound;
}

template <int kDim, int kRows>
__global__ void __launch_bounds__(kRows / kWarpRows * kWarpSize)
    attention_backward_short(const __grid_constant__ Operands x) {
  constexpr int kSteps = kRows / kColumns, kTile = kRows * kTileStride<kDim>;
  constexpr int kScores = kRows * (kDim > kRows ? kTileStride<kDim> : kScoreStride<kRows>);
  EMBER_SHARED(std::uint16_t, keys, kScores);
  EMBER_SHARED(std::uint16_t, values, kScores);
  EMBER_SHARED(std::uint16_t, queries, kTile);
  EMBER_SHARED(std::uint16_t, douts, kTile);
  EMBER_SHARED(float, bounds, kWarps);
  const Call& call = x.call;
  const Head head(call);
  const int row = warp_row(), query_rows = head.queries - row, key_rows = head.length - row;
  const int steps = (head.length + kColumns - 1) / kColumns;
  const std::uint32_t keep = call.mask.active() && query_rows > 0 ? keep_by_queries(call, head, row, 0, steps) : ~0u;
  await_previous_grid();
  stage<kDim, kWarpRows>({{keys, head.tokens(x.key, 0), head.length},
                          {values, head.tokens(x.value, 0), head.length},
                          {queries, head.of_queries(x.query, 0), head.queries},
                          {douts, head.of_outputs(x.dout, 0), head.queries}});
  spread_first(x, head);
  __syncthreads();

  float p[kSteps][4], dp[kSteps][4];
  RowStatistics of_rows[2] = {};
  if (query_rows > 0) {
    QueryOperands<kDim> on;
    read_fragments<kDim>(on.query, queries + row * kTileStride<kDim>);
    read_fragments<kDim>(on.dout, douts + row * kTileStride<kDim>);
    RowSums sums;
    float rescale[2];
    scores<kDim>(p, on.query, keys, head.length);
    sums.softmax.add(p, head.length, call.log2_scale, rescale);
#pragma unroll
    for (int n = 0; n < kSteps; ++n) {
      if (n >= steps) break;
      dprobabilities<kDim>(dp[n], on, values, n, keep, call.mask.scale);
      sums.add(p[n], dp[n]);
    }
    of_rows[0] = sums.finish(0);
    of_rows[1] = sums.finish(1);
  }
  const float scale = gradient_scale(largest_of_block(fmaxf(of_rows[0].bound, of_rows[1].bound), bounds));

  if (query_rows > 0) {  // all have read the values
    float dquery[kDim / 8][4];
    clear<kDim>(dquery);
    const float scales[2] = {gradient_scale(of_rows[0].bound), gradient_scale(of_rows[1].bound)};
#pragma unroll
    for (int n = 0; n < kSteps; ++n) {
      if (n >= steps) break;
      float ds[4];
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const RowStatistics& of = of_rows[c / 2];
        const float probability = p[n][c] * of.inverse;
        ds[c] = probability * scales[c / 2] * (dp[n][c] - of.delta);
        dp[n][c] = ds[c] * (scale / scales[c / 2]);
        p[n][c] = keep >> (4 * n + c) & 1u ? probability * kProbabilityScale : 0;
      }
      add_product<kDim>(dquery, {pack(ds), pack(ds + 2)}, keys + n * kColumns * kTileStride<kDim>);
    }
    write_scores<kRows>(values, p, steps);
    const float factors[2] = {call.scale / scales[0], call.scale / scales[1]};
    scale_rows<kDim>(dquery, factors);
    store<kDim>(head.of_queries(x.dquery, row), dquery, query_rows);
  }
  __syncthreads();  // all have read the keys, and P M is there
  if (query_rows > 0) write_scores<kRows>(keys, dp, steps);
  if (key_rows > 0)
    store_sum_over_queries<kDim, kRows>(head.tokens(x.dvalue, row), values, douts, head.queries,
                                        call.mask.scale / kProbabilityScale, key_rows);
  __syncthreads();  // dS is there
  if (key_rows > 0)
    store_sum_over_queries<kDim, kRows>(head.tokens(x.dkey, row), keys, queries, head.queries, call.scale / scale,
                                        key_rows);
}

}  // namespace ember::attention
