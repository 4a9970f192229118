// Attention, forward: out = dropout(softmax(q kᵀ / sqrt(D))) v for each head of each sequence, without storing the
// probabilities (Vaswani et al. 2017, section 3.2; Dao et al. 2022, FlashAttention; the softmax over tiles is Milakov
// and Gimelshein's). Shapes and the numbering of the dropout stream: kernels/kernels.h.
//
// A block has one head of one sequence and 16 queries for each of its 1 to 4 warps; the keys and values pass through
// shared memory in tiles of 64 rows, or of 32 where no sequence is longer. A warp's queries are A fragments, loaded
// once; scores, exponentials and the sum of values stay in its registers as fragments (attention_tile.cuh). For up to
// 64 keys, which is all but a few texts, there is one tile and one barrier.
//
// With E the kDim of attention_tile.cuh and L the length: moves 8 L D bytes a head (query, key, value, out), and reads
// keys and values again, from the second-level cache, for every 64 queries after the first. Does 4 L² E operations on
// tensor cores, L² exponentials and, with dropout, L² / 4 Philox blocks; at lengths of 20 it waits for memory and
// barriers rather than for any of these. On sm_75: 124 registers (E = 64: 156) and 10,240 bytes (18,432) of shared
// memory, so 16 (12) of 32 warps are resident; tiles of 32, by blocks of at most two warps: 128 (124),
// 5,120 (9,216), 16 (14). No local memory.
#include "kernels/cuda/attention_head.cuh"
#include "kernels/cuda/cuda_kernels.h"
#include "runtime/cuda/launch.h"

namespace ember {
namespace {

using namespace attention;

// The exponentials of a tile, those that survive, times its values.
template <int kDim, int kSteps>
__device__ inline void add_values(float (&out)[kDim / 8][4], const float (&p)[kSteps][4], std::uint32_t keep,
                                  const std::uint16_t* values, int count) {
#pragma unroll
  for (int n = 0; n < kSteps; ++n) {
    if (n * kColumns >= count) break;
    float kept[4];
#pragma unroll
    for (int c = 0; c < 4; ++c) kept[c] = keep >> (4 * n + c) & 1u ? p[n][c] : 0;
    add_product<kDim>(out, {pack(kept), pack(kept + 2)}, values + n * kColumns * kTileStride<kDim>);
  }
}

// The head's columns of a sequence's first row. Its block has row 0 alone, so one block copies.
__device__ inline void copy_first(const FirstRows& first, const Head& head) {
  if (first.of_sequences.data == nullptr) return;
  const HalfRows from = head.tokens(first.of_tokens, 0), to = head.of_outputs(first.of_sequences, 0);
  for (int c = static_cast<int>(threadIdx.x); c < from.dim; c += static_cast<int>(blockDim.x))
    to.data[c] = from.data[c];
}

// Tiles of kRows keys.
template <int kDim, int kRows>
__global__ void __launch_bounds__(kWarps* kWarpSize)
    attention_forward_kernel(const __grid_constant__ Call call, HalfRows out, HalfRows query, HalfRows key,
                             HalfRows value, FirstRows first) {
  EMBER_SHARED(std::uint16_t, keys, kRows * kTileStride<kDim>);
  EMBER_SHARED(std::uint16_t, values, kRows * kTileStride<kDim>);
  const Head head(call);
  const int row = warp_row(), rows = head.queries - row;  // rows <= 0: this warp only helps to stage
  const auto kept = [&](int begin) {
    const int count = min(kRows, head.length - begin);
    return call.mask.active() ? keep_by_queries(call, head, row, begin, (count + kColumns - 1) / kColumns) : ~0u;
  };
  std::uint32_t keep = rows > 0 ? kept(0) : ~0u;
  await_previous_grid();
  if (block_row() >= head.queries) return;
  copy_first(first, head);
  std::uint32_t q[kDim / 8][2];
  load_fragments<kDim>(q, head.of_queries(query, row), rows);
  Softmax softmax;
  float sum[kDim / 8][4];
  clear<kDim>(sum);
  for (int begin = 0; begin < head.length; begin += kRows) {
    const int count = min(kRows, head.length - begin);
    if (begin > 0) __syncthreads();  // all have read the tile before
    stage<kDim>({{keys, head.tokens(key, begin), count}, {values, head.tokens(value, begin), count}});
    __syncthreads();
    if (rows <= 0) continue;
    float p[kRows / kColumns][4], rescale[2];
    scores<kDim>(p, q, keys, count);
    softmax.add(p, count, call.log2_scale, rescale);
    scale_rows<kDim>(sum, rescale);
    if (begin > 0) keep = kept(begin);
    add_values<kDim>(sum, p, keep, values, count);
  }
  if (rows <= 0) return;
  const float factors[2] = {call.mask.scale / quad_sum(softmax.sum[0]), call.mask.scale / quad_sum(softmax.sum[1])};
  scale_rows<kDim>(sum, factors);
  store<kDim>(head.of_outputs(out, row), sum, rows);
}

void run(GridStart start, cudaStream_t stream, const Call& call, Tensor out, Tensor query, Tensor key, Tensor value,
         const Batch& batch, const FirstRows& first) {
  const std::int64_t dim = key.cols / call.heads, rows = call.first_only ? 1 : batch.max_length;
  const int width = common_width({out, query, key, value}, dim);
  const unsigned threads = threads_for(batch.max_length);
  with_dim_and_rows(dim, batch.max_length, [&](auto d, auto r) {
    launch(start, "attention_forward", stream, grid_for(batch, call.heads, rows, threads), threads, 0,
           attention_forward_kernel<d(), r()>, call, half_rows(out, dim, width), half_rows(query, dim, width),
           half_rows(key, dim, width), half_rows(value, dim, width), first);
  });
}

}  // namespace

void CudaKernels::attention_forward(Tensor out, Tensor query, Tensor key, Tensor value, const Batch& batch,
                                    std::int64_t heads, std::int64_t positions, Queries queries,
                                    const Dropout& dropout) {
  const Call call = make_call(query, key, value, batch, heads, positions, queries, dropout);
  require(has_shape(out, query.rows, query.cols, DType::f16), "attention_forward: shape of the output");
  if (batch.sequences > 0) run(start_of_reader(), stream(), call, out, query, key, value, batch, {});
}

// Queries of all rows cost less than to gather the first rows and to multiply them by themselves.
void CudaKernels::cls_attention_forward(Tensor out, Tensor first, Tensor kept, Tensor in, Tensor weight, Tensor bias,
                                        const Batch& batch, std::int64_t heads, std::int64_t positions,
                                        const Dropout& dropout) {
  const Call call = make_cls_call(kept, in, weight, bias, batch, heads, positions, dropout);
  const std::int64_t c = in.cols, dim = c / heads;
  require(all_have_shape({out, first}, batch.sequences, c, DType::f16), "cls_attention_forward: shape of the output");
  linear_forward(kept, in, weight, bias);
  if (batch.sequences == 0) return;
  run(start_of_reader(), stream(), call, out, kept.columns(0, c), kept.columns(c, c), kept.columns(2 * c, c), batch,
      {half_rows(in, dim, 1), half_rows(first, dim, 1)});
}

}  // namespace ember
