// What attention's kernels share: the arguments of a call, where a head of a sequence lies, the rows' softmax and the
// dropout masks in the layouts of the fragments (attention_tile.cuh).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <initializer_list>

#include "kernels/cuda/attention_tile.cuh"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/dropout.cuh"
#include "kernels/require.h"
#include "runtime/ceil_div.h"

namespace ember::attention {

constexpr int kWarps = 4;  // of a block at most
// Most rows of a sequence for which the kernels have instances of their own, with half the scores to hold: fewer
// registers, less code, and half the shared memory.
constexpr int kShortRows = 32;

// What is the same for all blocks of a call.
struct Call {
  const std::int32_t* cu_seqlens;
  int heads;
  bool first_only;   // Queries::first
  bool in_place;     // first_only, and each query stands in its token's row
  float scale;       // 1 / sqrt(D)
  float log2_scale;  // log2(e) / sqrt(D): exp(score / sqrt(D)) = 2^(score log2_scale)
  DropoutMask mask;
  std::int64_t mask_blocks;  // of the dropout stream, from one (token, head) to the next: ceil(P / 4)
};

// The head of a sequence that a block works on. blockIdx.x counts the heads of the first sequence, then of the next, so
// that heads which share sectors of memory run side by side; blockIdx.y counts the block's rows.
struct Head {
  __device__ explicit Head(const Call& of)
      : call(of), head(static_cast<int>(blockIdx.x) % of.heads), sequence(static_cast<int>(blockIdx.x) / of.heads) {
    first_token = call.cu_seqlens[sequence];
    length = call.cu_seqlens[sequence + 1] - first_token;
    queries = call.first_only ? 1 : length;
  }
  // The row of the sequence's first query, and of its output.
  __device__ int first_query() const { return call.first_only && !call.in_place ? sequence : first_token; }
  __device__ int first_out() const { return call.first_only ? sequence : first_token; }
  // The head's columns of a matrix with a row per token, per query as they lie, or per row of the output, from row
  // `row` of the sequence on.
  __device__ HalfRows tokens(const HalfRows& matrix, int row) const {
    return matrix.block(std::int64_t{first_token} + row, head * matrix.dim);
  }
  __device__ HalfRows of_queries(const HalfRows& matrix, int row) const {
    return matrix.block(std::int64_t{first_query()} + row, head * matrix.dim);
  }
  __device__ HalfRows of_outputs(const HalfRows& matrix, int row) const {
    return matrix.block(std::int64_t{first_out()} + row, head * matrix.dim);
  }
  // The block of the dropout stream that holds key 0 of a query.
  __device__ std::int64_t first_mask_block(int query) const {
    return ((std::int64_t{first_token} + query) * call.heads + head) * call.mask_blocks;
  }

  const Call& call;
  int head, sequence;
  int first_token, length, queries;
};

// Two matrices that meet in the first row of each sequence (Kernels::cls_attention_*); without data there is nothing to
// do.
struct FirstRows {
  HalfRows of_tokens, of_sequences;
};

// The first of the 16 rows that this warp owns. A block owns 16 rows for each of its warps.
__device__ inline int block_row() {
  return static_cast<int>(blockIdx.y * (blockDim.x / kWarpSize)) * kWarpRows;
}
__device__ inline int warp_row() {
  return block_row() + static_cast<int>(threadIdx.x) / kWarpSize * kWarpRows;
}

// ---- Dropout ------------------------------------------------------------------------------------------------------

// Bit w: whether element 4 block + w survives.
__device__ inline std::uint32_t keep_four(const DropoutMask& mask, std::int64_t block) {
  const uint4 words = mask.words(static_cast<std::uint64_t>(block));
  const auto bit = [&mask](unsigned word, int place) { return (word >= mask.threshold ? 1u : 0u) << place; };
  return bit(words.x, 0) | bit(words.y, 1) | bit(words.z, 2) | bit(words.w, 3);
}

// For 16 queries from `query` on and `steps` times 8 keys from `key` on: bit 4 n + c says whether d[c] of the n-th
// product survives. Of the four elements of a random block a lane holds two in row g and its neighbour the others, and
// the same in row g + 8: so the even lane draws for row g, the odd one for row g + 8, and they swap.
__device__ inline std::uint32_t keep_by_queries(const Call& call, const Head& head, int query, int key, int steps) {
  const int lane = lane_index(), odd = lane % 2;
  const std::int64_t blocks =
      head.first_mask_block(call.first_only ? 0 : query + lane_row() + 8 * odd) + key / 4 + lane % 4 / 2;
  std::uint32_t own = 0;
#pragma unroll 1
  for (int n = 0; n < steps; ++n) own |= keep_four(call.mask, blocks + 2 * n) << (4 * n);
  const std::uint32_t other = __shfl_xor_sync(~0u, own, 1);
  const std::uint32_t upper = (odd ? other : own) >> (2 * odd), lower = (odd ? own : other) >> (2 * odd);
  return (upper & 0x33333333u) | (lower & 0x33333333u) << 2;
}

// The same for 16 keys from `key` on (rows) and 8 queries from `query` on (columns): bit c says whether d[c] survives.
// A lane needs one element of each of four random blocks, and so do the three lanes whose rows are beside its row: each
// of the four draws one of the blocks.
__device__ inline std::uint32_t keep_by_keys(const Call& call, const Head& head, int key, int query) {
  const int row = lane_row(), word = row % 4;
  const std::int64_t block =
      head.first_mask_block(call.first_only ? 0 : query + lane_column() + word % 2) + key / 4 + row / 4 + word / 2 * 2;
  std::uint32_t bits = keep_four(call.mask, block) << (4 * word);
  bits |= __shfl_xor_sync(~0u, bits, 4);
  bits |= __shfl_xor_sync(~0u, bits, 8);
  bits >>= word;
  return (bits & 1u) | (bits >> 3 & 2u) | (bits >> 6 & 4u) | (bits >> 9 & 8u);
}

// ---- Softmax ------------------------------------------------------------------------------------------------------

// Scores of a warp's 16 queries and the `count` keys of a tile; minus infinity past them.
template <int kDim, int kSteps>
__device__ inline void scores(float (&s)[kSteps][4], const std::uint32_t (&query)[kDim / 8][2],
                              const std::uint16_t* keys, int count) {
#pragma unroll
  for (int n = 0; n < kSteps; ++n) {
    if (n * kColumns >= count) break;
    product_transposed<kDim>(s[n], query, keys + n * kColumns * kTileStride<kDim>);
#pragma unroll
    for (int c = 0; c < 4; ++c)
      if (n * kColumns + lane_column() + c % 2 >= count) s[n][c] = -INFINITY;
  }
}

// exp((score - largest) / sqrt(D)). The difference is taken first: scores can be so large (2^38 for f16 at its edge)
// that score log2_scale - largest log2_scale would be off by thousands.
__device__ inline float exponential(float score, float largest, float log2_scale) {
  return exp2f((score - largest) * log2_scale);
}

// The softmax of rows g and g + 8 over the tiles seen so far (Milakov and Gimelshein 2018, "Online normalizer
// calculation for softmax"). A NaN among the scores, or an infinite largest one, makes a whole row NaN.
struct Softmax {
  float largest[2] = {-INFINITY, -INFINITY};
  float sum[2] = {0, 0};  // over this lane's columns

  // Puts exponentials in place of the scores of a tile. What was summed for earlier tiles is to be multiplied by
  // `rescale`.
  template <int kSteps>
  __device__ void add(float (&s)[kSteps][4], int count, float log2_scale, float (&rescale)[2]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float most = -INFINITY;
#pragma unroll
      for (int n = 0; n < kSteps; ++n)
        if (n * kColumns < count) most = fmaxf(most, fmaxf(s[n][2 * half], s[n][2 * half + 1]));
      most = fmaxf(largest[half], quad_max(most));
      rescale[half] = exponential(largest[half], most, log2_scale);
      largest[half] = most;
      sum[half] *= rescale[half];
    }
    exponentials(s, count, log2_scale);
#pragma unroll
    for (int n = 0; n < kSteps; ++n)
      if (n * kColumns < count) sum[0] += s[n][0] + s[n][1], sum[1] += s[n][2] + s[n][3];
  }
  template <int kSteps>
  __device__ void exponentials(float (&s)[kSteps][4], int count, float log2_scale) const {
#pragma unroll
    for (int n = 0; n < kSteps; ++n)
      if (n * kColumns < count)
#pragma unroll
        for (int c = 0; c < 4; ++c) s[n][c] = exponential(s[n][c], largest[c / 2], log2_scale);
  }
};

// ---- On the host --------------------------------------------------------------------------------------------------

// Checks the operands that forward and backward have in common.
inline Call make_call(Tensor query, Tensor key, Tensor value, const Batch& batch, std::int64_t heads,
                      std::int64_t positions, Queries queries, const Dropout& dropout) {
  require(heads > 0 && query.cols % heads == 0, "attention: the heads do not divide the columns");
  const std::int64_t rows = queries == Queries::all ? batch.tokens : batch.sequences, dim = query.cols / heads;
  require(has_shape(query, rows, query.cols, DType::f16), "attention: shape of the query");
  require(all_have_shape({key, value}, batch.tokens, query.cols, DType::f16), "attention: shape of the key or value");
  require(batch.max_length <= positions, "attention: a sequence is longer than the positions");
  require(batch.tokens >= batch.sequences, "attention: a sequence without tokens");
  require(dim <= CudaKernels::kMostHeadColumns,
          "attention: more columns to a head than CudaKernels::most_head_columns");
  const float scale = 1 / std::sqrt(static_cast<float>(dim));
  return {.cu_seqlens = batch.cu_seqlens,
          .heads = static_cast<int>(heads),
          .first_only = queries == Queries::first,
          .in_place = false,
          .scale = scale,
          .log2_scale = scale * 1.44269504088896341f,
          .mask = DropoutMask(dropout),
          .mask_blocks = ceil_div(positions, 4)};
}

// Of cls_attention: the first rows' queries stand among all rows of `kept`.
inline Call make_cls_call(Tensor kept, Tensor in, Tensor weight, Tensor bias, const Batch& batch, std::int64_t heads,
                          std::int64_t positions, const Dropout& dropout) {
  const std::int64_t c = in.cols;
  require(has_shape(in, batch.tokens, c, DType::f16) && has_shape(kept, batch.tokens, 3 * c, DType::f16) &&
              has_shape(weight, 3 * c, c, DType::f16) && (bias.empty() || has_shape(bias, 1, 3 * c, DType::f16)),
          "cls_attention: shapes");
  Call call = make_call(kept.columns(0, c).row_block(0, batch.sequences), kept.columns(c, c), kept.columns(2 * c, c),
                        batch, heads, positions, Queries::first, dropout);
  call.in_place = true;
  return call;
}

// The widest access, in halves, for which every row of every head of all `tensors` is aligned. A head of 26 columns is
// 52 bytes, so only pairs are; odd dims or strides leave single halves.
inline int common_width(std::initializer_list<Tensor> tensors, std::int64_t dim) {
  for (const int width : {8, 2}) {
    bool fits = dim % width == 0;
    for (const Tensor& tensor : tensors)
      fits =
          fits && tensor.stride % width == 0 &&
          reinterpret_cast<std::uintptr_t>(tensor.data) % (sizeof(std::uint16_t) * static_cast<unsigned>(width)) == 0;
    if (fits) return width;
  }
  return 1;
}

inline HalfRows half_rows(const Tensor& tensor, std::int64_t dim, int width) {
  return {static_cast<std::uint16_t*>(tensor.data), tensor.stride, static_cast<int>(dim), width};
}

// Threads of a block, no more warps than the longest sequence has rows for, and the blocks for `rows` rows of each
// head.
inline unsigned threads_for(std::int64_t max_length) {
  const std::int64_t warps = std::clamp<std::int64_t>(ceil_div(max_length, kWarpRows), 1, kWarps);
  return static_cast<unsigned>(warps) * kWarpSize;
}
inline dim3 grid_for(const Batch& batch, std::int64_t heads, std::int64_t rows, unsigned threads) {
  const std::int64_t block_rows = threads / kWarpSize * kWarpRows;
  return dim3(static_cast<unsigned>(batch.sequences * heads), static_cast<unsigned>(ceil_div(rows, block_rows)));
}

// Calls run(D), a compile-time constant, of the instance for heads of `dim` columns.
template <typename Run>
void with_dim(std::int64_t dim, const Run& run) {
  if (dim <= 32)
    run(std::integral_constant<int, 32>{});
  else
    run(std::integral_constant<int, 64>{});
}
// Calls run(D, R), compile-time constants, of the instance that stages no more rows at a time than `max_length` needs.
template <typename Run>
void with_dim_and_rows(std::int64_t dim, std::int64_t max_length, const Run& run) {
  with_dim(dim, [&](auto d) {
    if (max_length <= kShortRows)
      run(d, std::integral_constant<int, kShortRows>{});
    else
      run(d, std::integral_constant<int, kTileRows>{});
  });
}

}  // namespace ember::attention
