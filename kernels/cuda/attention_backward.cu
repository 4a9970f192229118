// Attention, backward, by recomputation: nothing is saved by the forward pass. With P the probabilities, M the
// dropout's multipliers (0 or 1 / (1 - p)) and S the scores of a head (Dao et al. 2022, FlashAttention, appendix B):
//   dV = (P M)ᵀ dO,  dP = M (dO Vᵀ),  delta = rowsum(dP P),  dS = P (dP - delta),  dQ = dS K / sqrt(D),
//   dK = dSᵀ Q / sqrt(D).
// Two passes, so that every sum has one owner and a fixed order, without atomics. In the first a warp owns 16 queries
// and walks over the tiles of keys there and back: there for the rows' statistics, which it leaves in scratch memory,
// and back for dQ. The last tile serves both. In the second pass a warp owns 16 keys and walks over the queries, with
// everything transposed. Up to 64 rows a block has all of its head's, and one kernel computes the scores once for both
// (attention_backward_short.cuh).
//
// Ranges. Gradients come multiplied by the loss scale, up to f16's 65504, and the matrix instruction takes f16.
// - dS is bounded by 2 max |dP| of its row, which may reach 2^38, and its smallest parts matter down to where the
//   largest make them invisible. So dS enters as dS 2^k, with k such that the bound comes to between 2^14 and 2^15: it
//   cannot overflow, and keeps f16's full precision down to 2^-28 of the bound. For dQ each row has its k; for dK,
//   whose sum runs over rows, a warp has one k for all queries so far and rescales its sum (exactly: powers of two)
//   when a larger bound comes.
// - P M enters as P 2^14 where it survives: at most 2^14, full precision down to 2^-28.
// Sums are f32 and have room for 2^15 2^16 512; the powers of two and the factors are taken out at the end, in f32.
//
// Costs, with E the kDim of attention_tile.cuh and L the length: moves 22 L D + 32 L bytes a head (query, key, value
// and dout twice, three gradients, the statistics there and back) and reads the other side's rows again, from the
// second-level cache, for every 64 rows owned after the first. Does 16 L² E operations on tensor cores (18 past 64
// keys), 2 L² exponentials (up to 3) and, with dropout, L² / 2 Philox blocks (up to 3 L² / 4). On sm_75 queries
// take 152 registers (E = 64: 167) and 10,240 bytes of shared memory (18,432), 12 of 32 warps resident; keys 118 (174),
// 11,264 (19,456), 16 (8) warps. Up to 64 rows 10 L² E operations, L² exponentials, L² / 4 Philox blocks and no
// statistics in memory: 116 (134) registers, 28,688 bytes (36,880), 8 (4) warps; up to 32 rows 83 (103), 10,256
// (18,448), 12 (6). No local memory.
//
// An infinity or NaN in an operand makes what depends on it infinite or NaN, so that the loss scale's check sees it.
#include "kernels/cuda/attention_backward.cuh"
#include "kernels/cuda/attention_backward_short.cuh"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/reduce.cuh"
#include "runtime/cuda/launch.h"

namespace ember {
namespace {

using namespace attention;

// Of the first `rows` rows of the warp.
__device__ inline void write_statistics(RowStatistics* to, const RowStatistics (&of_rows)[2], int rows) {
  if (lane_column() != 0) return;
  if (lane_row() < rows) to[lane_row()] = of_rows[0];
  if (lane_row() + 8 < rows) to[lane_row() + 8] = of_rows[1];
}

// dquery += dS 2^k K for a tile whose exponentials are `p`.
template <int kDim>
__device__ inline void add_keys(float (&dquery)[kDim / 8][4], const float (&p)[kTileSteps][4],
                                const QueryOperands<kDim>& on, const RowStatistics (&rows)[2],
                                const std::uint16_t* keys, const std::uint16_t* values, int count, std::uint32_t keep,
                                float mask_scale) {
  const float factors[2] = {rows[0].inverse * gradient_scale(rows[0].bound),
                            rows[1].inverse * gradient_scale(rows[1].bound)};
#pragma unroll
  for (int n = 0; n < kTileSteps; ++n) {
    if (n * kColumns >= count) break;
    float ds[4];
    dprobabilities<kDim>(ds, on, values, n, keep, mask_scale);
#pragma unroll
    for (int c = 0; c < 4; ++c) ds[c] = p[n][c] * factors[c / 2] * (ds[c] - rows[c / 2].delta);
    add_product<kDim>(dquery, {pack(ds), pack(ds + 2)}, keys + n * kColumns * kTileStride<kDim>);
  }
}

// With the tiles `keys` and `values`. All threads of the block call.
template <int kDim>
__device__ inline void own_queries(const Operands& x, const Head& head, std::uint16_t* keys, std::uint16_t* values) {
  if (block_row() >= head.queries) return;
  const Call& call = x.call;
  const int row = warp_row(), rows = head.queries - row;  // rows <= 0: this warp only helps to stage
  QueryOperands<kDim> on;
  load_fragments<kDim>(on.query, head.of_queries(x.query, row), rows);
  load_fragments<kDim>(on.dout, head.of_outputs(x.dout, row), rows);

  RowSums sums;
  RowStatistics of_rows[2] = {};
  float gradient[kDim / 8][4];
  clear<kDim>(gradient);
  const int tiles = (head.length + kTileRows - 1) / kTileRows;
  for (int step = 0; step < 2 * tiles - 1; ++step) {  // there and back
    const int begin = (step < tiles ? step : 2 * tiles - 2 - step) * kTileRows;
    const int count = min(kTileRows, head.length - begin);
    if (step > 0) __syncthreads();  // all have read the tile before
    stage<kDim>({{keys, head.tokens(x.key, begin), count}, {values, head.tokens(x.value, begin), count}});
    __syncthreads();
    if (rows <= 0) continue;
    float p[kTileSteps][4];
    scores<kDim>(p, on.query, keys, count);
    const std::uint32_t keep =
        call.mask.active() ? keep_by_queries(call, head, row, begin, (count + kColumns - 1) / kColumns) : ~0u;
    if (step < tiles) {
      sums.add<kDim>(p, on, values, count, keep, call);
    } else {
      sums.softmax.exponentials(p, count, call.log2_scale);
    }
    if (step == tiles - 1) {
      of_rows[0] = sums.finish(0);
      of_rows[1] = sums.finish(1);
      write_statistics(x.of_head(head) + row, of_rows, rows);
    }
    if (step >= tiles - 1) add_keys<kDim>(gradient, p, on, of_rows, keys, values, count, keep, call.mask.scale);
  }
  if (rows <= 0) return;
  const float factors[2] = {call.scale / gradient_scale(of_rows[0].bound),
                            call.scale / gradient_scale(of_rows[1].bound)};
  scale_rows<kDim>(gradient, factors);
  store<kDim>(head.of_queries(x.dquery, row), gradient, rows);
}

// ---- Warps that own keys ------------------------------------------------------------------------------------------

template <int kDim>
struct KeyOperands {
  std::uint32_t key[kDim / 8][2], value[kDim / 8][2];
};

template <int kDim>
struct KeyGradients {
  float key[kDim / 8][4];    // times 2^k
  float value[kDim / 8][4];  // times kProbabilityScale, without the mask's scale
  float bound = 0;           // max |dP| of the queries so far, from which k follows

  __device__ void include(float tile_bound) {
    const float before = gradient_scale(bound);
    bound = fmaxf(bound, tile_bound);
    const float ratio = gradient_scale(bound) / before, factors[2] = {ratio, ratio};
    scale_rows<kDim>(key, factors);
  }
};

// The largest bound among a tile's queries.
__device__ inline float largest_bound(const RowStatistics* statistics, int count) {
  float bound = 0;
  for (int i = lane_index(); i < count; i += kWarpSize) bound = fmaxf(bound, statistics[i].bound);
  return warp_max(bound);
}

// Adds the part of 8 queries, the rows of the tiles that start at `queries` and `douts`, with `statistics`.
template <int kDim>
__device__ inline void add_queries(KeyGradients<kDim>& gradients, const KeyOperands<kDim>& on,
                                   const std::uint16_t* queries, const std::uint16_t* douts,
                                   const RowStatistics* statistics, std::uint32_t keep, float ds_scale,
                                   const Call& call) {
  float p[4], ds[4];
  product_transposed<kDim>(p, on.key, queries);
  product_transposed<kDim>(ds, on.value, douts);
#pragma unroll
  for (int c = 0; c < 4; ++c) {
    const RowStatistics of = statistics[lane_column() + c % 2];
    const bool kept = keep >> c & 1u;
    const float dp = kept ? ds[c] * call.mask.scale : 0;
    const float probability = exponential(p[c], of.largest, call.log2_scale) * of.inverse;
    ds[c] = probability * ds_scale * (dp - of.delta);
    p[c] = kept ? probability * kProbabilityScale : 0;
  }
  add_product<kDim>(gradients.value, {pack(p), pack(p + 2)}, douts);
  add_product<kDim>(gradients.key, {pack(ds), pack(ds + 2)}, queries);
}

// With the tiles `queries` and `douts`, and room for the statistics of a tile. All threads of the block call.
template <int kDim>
__device__ inline void own_keys(const Operands& x, const Head& head, std::uint16_t* queries, std::uint16_t* douts,
                                RowStatistics* of_queries) {
  if (block_row() >= head.length) return;
  spread_first(x, head);
  const Call& call = x.call;
  const int row = warp_row(), rows = head.length - row;  // rows <= 0: this warp only helps to stage
  KeyOperands<kDim> on;
  load_fragments<kDim>(on.key, head.tokens(x.key, row), rows);
  load_fragments<kDim>(on.value, head.tokens(x.value, row), rows);
  const RowStatistics* of_head = x.of_head(head);

  KeyGradients<kDim> gradients;
  clear<kDim>(gradients.key);
  clear<kDim>(gradients.value);
  for (int begin = 0; begin < head.queries; begin += kTileRows) {
    const int count = min(kTileRows, head.queries - begin), steps = (count + kColumns - 1) / kColumns;
    if (begin > 0) __syncthreads();  // all have read the tile before
    stage<kDim>({{queries, head.of_queries(x.query, begin), count}, {douts, head.of_outputs(x.dout, begin), count}});
    // Rows of zeros past the last query have probability zero: inverse is 0.
    for (int i = static_cast<int>(threadIdx.x); i < steps * kColumns; i += static_cast<int>(blockDim.x))
      of_queries[i] = i < count ? of_head[begin + i] : RowStatistics{0, 0, 0, 0};
    __syncthreads();
    if (rows <= 0) continue;
    gradients.include(largest_bound(of_queries, count));
    const float ds_scale = gradient_scale(gradients.bound);
#pragma unroll 1
    for (int n = 0; n < steps; ++n) {
      const int first = n * kColumns;
      const std::uint32_t keep = call.mask.active() ? keep_by_keys(call, head, row, begin + first) : ~0u;
      add_queries<kDim>(gradients, on, queries + first * kTileStride<kDim>, douts + first * kTileStride<kDim>,
                        of_queries + first, keep, ds_scale, call);
    }
  }
  if (rows <= 0) return;
  const float key_factor = call.scale / gradient_scale(gradients.bound), key_factors[2] = {key_factor, key_factor};
  const float value_factor = call.mask.scale / kProbabilityScale, value_factors[2] = {value_factor, value_factor};
  scale_rows<kDim>(gradients.key, key_factors);
  scale_rows<kDim>(gradients.value, value_factors);
  store<kDim>(head.tokens(x.dkey, row), gradients.key, rows);
  store<kDim>(head.tokens(x.dvalue, row), gradients.value, rows);
}

// ---- Kernels ------------------------------------------------------------------------------------------------------

template <int kDim>
__global__ void __launch_bounds__(kWarps* kWarpSize) attention_backward_queries(const __grid_constant__ Operands x) {
  await_previous_grid();
  EMBER_SHARED(std::uint16_t, keys, kTileHalves<kDim>);
  EMBER_SHARED(std::uint16_t, values, kTileHalves<kDim>);
  own_queries<kDim>(x, Head(x.call), keys, values);
}

template <int kDim>
__global__ void __launch_bounds__(kWarps* kWarpSize) attention_backward_keys(const __grid_constant__ Operands x) {
  await_previous_grid();
  EMBER_SHARED(std::uint16_t, queries, kTileHalves<kDim>);
  EMBER_SHARED(std::uint16_t, douts, kTileHalves<kDim>);
  EMBER_SHARED(RowStatistics, of_queries, kTileRows);
  own_keys<kDim>(x, Head(x.call), queries, douts, of_queries);
}

struct Tensors {
  Tensor dquery, dkey, dvalue, dout, query, key, value;
};

bool is_short(const Batch& batch) {
  return batch.max_length <= kTileRows;
}

// The kernel for short sequences keeps its statistics in registers.
std::size_t statistics_bytes(const Call& call, const Batch& batch, const Tensor& dout) {
  return is_short(batch) ? 0 : static_cast<std::size_t>(call.heads * dout.rows) * sizeof(RowStatistics);
}

// Without `statistics` for short sequences.
void run(GridStart start, cudaStream_t stream, const Call& call, RowStatistics* statistics, const Tensors& t,
         const FirstRows& first, const Batch& batch) {
  const std::int64_t dim = t.key.cols / call.heads;
  const int width = common_width({t.dquery, t.dkey, t.dvalue, t.dout, t.query, t.key, t.value}, dim);
  const auto half = [dim, width](const Tensor& tensor) { return half_rows(tensor, dim, width); };
  const Operands x{call,
                   statistics,
                   half(t.dquery),
                   half(t.dkey),
                   half(t.dvalue),
                   half(t.dout),
                   half(t.query),
                   half(t.key),
                   half(t.value),
                   first,
                   static_cast<int>(t.dout.rows)};
  const unsigned threads = threads_for(batch.max_length);
  const dim3 by_keys = grid_for(batch, call.heads, batch.max_length, threads);
  if (is_short(batch))
    return with_dim_and_rows(dim, batch.max_length, [&](auto d, auto r) {
      launch(start, "attention_backward", stream, by_keys, threads, 0, attention_backward_short<d(), r()>, x);
    });
  const dim3 by_queries = grid_for(batch, call.heads, call.first_only ? 1 : batch.max_length, threads);
  with_dim(dim, [&](auto d) {
    launch_early("attention_backward_queries", stream, by_queries, threads, 0, attention_backward_queries<d()>, x);
    launch_early("attention_backward_keys", stream, by_keys, threads, 0, attention_backward_keys<d()>, x);
  });
}

}  // namespace

void CudaKernels::attention_backward(Tensor dquery, Tensor dkey, Tensor dvalue, Tensor dout, Tensor query, Tensor key,
                                     Tensor value, const Batch& batch, std::int64_t heads, std::int64_t positions,
                                     Queries queries, const Dropout& dropout) {
  const Call call = make_call(query, key, value, batch, heads, positions, queries, dropout);
  require(all_have_shape({dquery, dout}, query.rows, query.cols, DType::f16),
          "attention_backward: shape of dquery or dout");
  require(all_have_shape({dkey, dvalue}, key.rows, key.cols, DType::f16),
          "attention_backward: shape of dkey or dvalue");
  if (batch.sequences == 0) return;
  const auto statistics = static_cast<RowStatistics*>(scratch(statistics_bytes(call, batch, dout)));
  run(start_of_reader(), stream(), call, statistics, {dquery, dkey, dvalue, dout, query, key, value}, {}, batch);
}

// Its kernels spread dfirst, so that the product need not add to it: cuBLASLt would round before it adds, and is
// slower.
Tensor CudaKernels::cls_attention_backward(Tensor din, Tensor dspread, Tensor dweight, Tensor dbias, Tensor dkept,
                                           Tensor dfirst, Tensor dout, Tensor kept, Tensor first, Tensor in,
                                           Tensor weight, Tensor bias, const Batch& batch, std::int64_t heads,
                                           std::int64_t positions, const Dropout& dropout) {
  const Call call = make_cls_call(kept, in, weight, bias, batch, heads, positions, dropout);
  const std::int64_t c = in.cols, dim = c / heads;
  require(all_have_shape({dfirst, dout, first}, batch.sequences, c, DType::f16) &&
              all_have_shape({din, dspread}, batch.tokens, c, DType::f16) &&
              has_shape(dkept, batch.tokens, 3 * c, DType::f16),
          "cls_attention_backward: shapes");
  if (batch.sequences > 0) {
    const auto statistics = static_cast<RowStatistics*>(scratch(statistics_bytes(call, batch, dout)));
    run(start_of_reader(), stream(), call, statistics,
        {dkept.columns(0, c), dkept.columns(c, c), dkept.columns(2 * c, c), dout, kept.columns(0, c),
         kept.columns(c, c), kept.columns(2 * c, c)},
        {half_rows(dspread, dim, 1), half_rows(dfirst, dim, 1)}, batch);
  }
  linear_backward_weight(dweight, dbias, dkept, in);
  linear_backward_input(din, dkept, weight);
  return dspread;
}

}  // namespace ember
