// What the kernels of attention's backward share (attention_backward.cu, where the formulas are).
#pragma once

#include "kernels/cuda/attention_head.cuh"

namespace ember::attention {

// Of one query of one head, at statistics[head * rows + row]; 16 bytes, read and written whole.
struct alignas(16) RowStatistics {
  float largest;  // score
  float inverse;  // 1 / the sum of exponentials
  float delta;
  float bound;  // max |dP|
};

struct Operands {
  Call call;
  RowStatistics* statistics;
  HalfRows dquery, dkey, dvalue, dout, query, key, value;
  FirstRows first;  // dspread and dfirst of cls_attention
  int output_rows;

  __device__ RowStatistics* of_head(const Head& head) const {
    return statistics + std::int64_t{head.head} * output_rows + head.first_out();
  }
};

// 2^k that brings 2 `bound` to between 2^14 and 2^15; within the normal numbers also for a bound that is zero, which
// needs none, or infinite.
__device__ inline float gradient_scale(float bound) {
  const int exponent = max((__float_as_int(bound) >> 23) - 127, -60);
  return __int_as_float((127 + 13 - exponent) << 23);
}
constexpr float kProbabilityScale = 16384;

// ---- Warps that own queries ---------------------------------------------------------------------------------------

template <int kDim>
struct QueryOperands {
  std::uint32_t query[kDim / 8][2], dout[kDim / 8][2];
};

// dP for 8 keys.
template <int kDim>
__device__ inline void dprobabilities(float (&dp)[4], const QueryOperands<kDim>& on, const std::uint16_t* values, int n,
                                      std::uint32_t keep, float mask_scale) {
  product_transposed<kDim>(dp, on.dout, values + n * kColumns * kTileStride<kDim>);
#pragma unroll
  for (int c = 0; c < 4; ++c) dp[c] = keep >> (4 * n + c) & 1u ? dp[c] * mask_scale : 0;
}

// The statistics of rows g and g + 8.
struct RowSums {
  Softmax softmax;
  float delta[2] = {0, 0};  // with exponentials in place of probabilities, over this lane's columns
  float bound[2] = {0, 0};

  // `p` are a tile's scores, and become exponentials.
  template <int kDim>
  __device__ void add(float (&p)[kTileSteps][4], const QueryOperands<kDim>& on, const std::uint16_t* values, int count,
                      std::uint32_t keep, const Call& call) {
    float rescale[2];
    softmax.add(p, count, call.log2_scale, rescale);
    delta[0] *= rescale[0];
    delta[1] *= rescale[1];
#pragma unroll
    for (int n = 0; n < kTileSteps; ++n) {
      if (n * kColumns >= count) break;
      float dp[4];
      dprobabilities<kDim>(dp, on, values, n, keep, call.mask.scale);
      add(p[n], dp);
    }
  }
  // `p` are the exponentials of 8 keys.
  __device__ void add(const float (&p)[4], const float (&dp)[4]) {
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      delta[c / 2] += p[c] * dp[c];
      bound[c / 2] = fmaxf(bound[c / 2], fabsf(dp[c]));
    }
  }
  __device__ RowStatistics finish(int half) const {
    const float inverse = 1 / quad_sum(softmax.sum[half]);
    return {softmax.largest[half], inverse, quad_sum(delta[half]) * inverse, quad_max(bound[half])};
  }
};

// Of the block's rows of the head: the gradient of `first` in the first of all, zeros in the others, which have no
// queries either.
__device__ inline void spread_first(const Operands& x, const Head& head) {
  if (x.first.of_sequences.data == nullptr) return;
  const HalfRows from = head.of_outputs(x.first.of_sequences, 0);
  const int begin = block_row(), rows = min(static_cast<int>(blockDim.x) / kWarpSize * kWarpRows, head.length - begin);
  for (int i = static_cast<int>(threadIdx.x); i < rows * from.dim; i += static_cast<int>(blockDim.x)) {
    const int row = begin + i / from.dim, c = i % from.dim;
    head.tokens(x.first.of_tokens, row).data[c] = row == 0 ? from.data[c] : std::uint16_t{0};
    if (row > 0) head.tokens(x.dquery, row).data[c] = 0;
  }
}

}  // namespace ember::attention
