// Attention, rung 3: probabilities never reach memory (Dao et al. 2022, FlashAttention). Keys and values pass through
// shared memory in tiles that all queries of the block read; a thread has one query with its output row in registers,
// and corrects what it has summed whenever a larger score turns up (Milakov and Gimelshein 2018).
//
// It should buy the traffic of the probabilities, and reads of keys and values once a block instead of once a thread.
// What is left: 4 L² D operations a head on ordinary arithmetic units, each with a read of shared memory beside it;
// the shipped kernel does them in tensor cores, 16 queries a warp, from fragments that every lane shares.
#pragma once

#include "bench/variants/cuda/attention_packed.cuh"

namespace ember::variants {

using attention::HalfRows;

// A query of the block's head with its running softmax. kDim: the head dim rounded up; columns past it are zeros.
template <int kDim>
struct QueryRow {
  float q[kDim], sum[kDim];
  float largest = -INFINITY, total = 0;

  __device__ QueryRow(const HalfRows& query, int row) {
    const auto* from = reinterpret_cast<const __half*>(query.data + row * query.stride);
#pragma unroll
    for (int d = 0; d < kDim; ++d) q[d] = d < query.dim ? __half2float(from[d]) : 0, sum[d] = 0;
  }

  __device__ float dot(const std::uint16_t* key) const {
    float result = 0;
#pragma unroll
    for (int d = 0; d < kDim; d += 2) {
      float pair[2];
      unpack(pair, *reinterpret_cast<const std::uint32_t*>(key + d));
      result += q[d] * pair[0] + q[d + 1] * pair[1];
    }
    return result;
  }

  // Four keys of a tile, of which the first `count` exist; bit w of `keep`: whether the w-th survives dropout.
  __device__ void add(const std::uint16_t* keys, const std::uint16_t* values, int count, float log2_scale,
                      std::uint32_t keep) {
    constexpr int kStride = attention::kTileStride<kDim>;
    float s[4], most = largest;
#pragma unroll
    for (int w = 0; w < 4; ++w) s[w] = w < count ? dot(keys + w * kStride) : -INFINITY, most = fmaxf(most, s[w]);
    const float rescale = attention::exponential(largest, most, log2_scale);
    largest = most;
    total *= rescale;
#pragma unroll
    for (float& x : sum) x *= rescale;
#pragma unroll
    for (int w = 0; w < 4; ++w) {
      const float p = attention::exponential(s[w], most, log2_scale);
      total += p;
      if (w >= count || (keep >> w & 1u) == 0) continue;
#pragma unroll
      for (int d = 0; d < kDim; d += 2) {
        float pair[2];
        unpack(pair, *reinterpret_cast<const std::uint32_t*>(values + w * kStride + d));
        sum[d] += p * pair[0], sum[d + 1] += p * pair[1];
      }
    }
  }

  __device__ void write(const HalfRows& out, int row, float scale) const {
    auto* to = reinterpret_cast<__half*>(out.data + row * out.stride);
#pragma unroll
    for (int d = 0; d < kDim; ++d)
      if (d < out.dim) to[d] = __float2half_rn(sum[d] * (scale / total));
  }
};

template <int kDim>
__global__ void __launch_bounds__(kQueryThreads)
    attention_on_chip_kernel(attention::Call call, HalfRows out, HalfRows query, HalfRows key, HalfRows value) {
  EMBER_SHARED(std::uint16_t, keys, attention::kTileHalves<kDim>);
  EMBER_SHARED(std::uint16_t, values, attention::kTileHalves<kDim>);
  const attention::Head head(call);
  const auto block_row = static_cast<int>(blockIdx.y * kQueryThreads);
  if (block_row >= head.length) return;
  // Threads past the last query do its work again without storing it, so that all of them help to stage.
  const int thread_row = block_row + static_cast<int>(threadIdx.x), row = min(thread_row, head.length - 1);
  QueryRow<kDim> state(head.of_queries(query, 0), row);
  const std::int64_t block = head.first_mask_block(row);
  for (int begin = 0; begin < head.length; begin += attention::kTileRows) {
    const int count = min(attention::kTileRows, head.length - begin);
    if (begin > 0) __syncthreads();  // all have read the tile before
    attention::stage<kDim>({{keys, head.tokens(key, begin), count}, {values, head.tokens(value, begin), count}});
    __syncthreads();
#pragma unroll 1
    for (int j = 0; j < count; j += 4) {
      const std::uint32_t keep = call.mask.active() ? attention::keep_four(call.mask, block + (begin + j) / 4) : ~0u;
      const int at = j * attention::kTileStride<kDim>;
      state.add(keys + at, values + at, count - j, call.log2_scale, keep);
    }
  }
  if (thread_row < head.length) state.write(head.of_queries(out, 0), row, call.mask.scale);
}

inline void attention_on_chip(Device& device, const AttentionCall& a) {
  if (a.batch.sequences == 0) return;
  const attention::Call call =
      attention::make_call(a.query, a.key, a.value, a.batch, a.heads, a.positions, Queries::all, a.dropout);
  const std::int64_t dim = a.query.cols / a.heads;
  const int width = attention::common_width({a.out, a.query, a.key, a.value}, dim);
  const auto rows = [&](const Tensor& tensor) { return attention::half_rows(tensor, dim, width); };
  launch("attention_on_chip", device.stream, query_grid(a), dim3(kQueryThreads), 0,
         dim <= 32 ? attention_on_chip_kernel<32> : attention_on_chip_kernel<64>, call, rows(a.out), rows(a.query),
         rows(a.key), rows(a.value));
}

}  // namespace ember::variants
