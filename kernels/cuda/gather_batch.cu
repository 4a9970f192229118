// A batch from a data set on the device (Kernels::gather_batch), so that a step needs nothing of the host.
//
//   gather_rows   one block: the running sum of the rows' lengths, 256 rows at a time; the targets, a thread per row;
//   then
//                 the tokens, a warp per row. Moves 8 N + 4 B K bytes.
//   rank_tokens   the place of each token in the order of (id, row of the batch) is the number of tokens before it
//   there,
//                 which a thread per token counts: N² comparisons, for the 308 tokens of a step fewer than a sort has
//                 barriers to wait for. At 65,536 tokens it is 4.3e9, a few hundredths of such a step's operations.
//   list_unique   one block: where the id changes in that order, a new one begins; a running sum numbers them. Moves 16
//   N
//                 bytes.
//
// The padding id counts as the largest of all and is cut off at the end.
#include <algorithm>
#include <limits>

#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/vector_io.cuh"
#include "kernels/require.h"
#include "runtime/cuda/launch.h"

namespace ember {
namespace {

constexpr int kThreads = 256;
constexpr int kSmall = 1024;               // tokens
constexpr std::int64_t kGranularity = 32;  // tokens; also how finely products choose their algorithms (matmul.h)
constexpr std::int32_t kPadding = std::numeric_limits<std::int32_t>::max();

__device__ int thread() {
  return static_cast<int>(threadIdx.x);
}

// The sum of the values of this thread and of those before it in the block; `total`: of all. `sums`: shared memory for
// kThreads values, whose last readers have passed a barrier. Doubling distances, Hillis and Steele, "Data parallel
// algorithms" (CACM 1986).
__device__ int running_sum(int value, int* sums, int& total) {
  sums[thread()] = value;
  __syncthreads();
  for (int distance = 1; distance < kThreads; distance *= 2) {
    const int before = thread() >= distance ? sums[thread() - distance] : 0;
    __syncthreads();
    sums[thread()] += before;
    __syncthreads();
  }
  total = sums[kThreads - 1];
  const int sum = sums[thread()];
  __syncthreads();
  return sum;
}

__device__ std::int64_t row_at(const RowQueue& queue, std::int64_t place) {
  return queue.order == nullptr ? place : queue.order[place];
}

struct Gather {
  std::int32_t *token_ids, *cu_seqlens;
  Rows<float> targets;
  RowQueue from;
  int rows, sequences, tokens, labels;  // labels: 0 without targets
  std::int32_t padding_id;
};

__device__ void write_lengths(const Gather& a, std::int64_t first, int* sums) {
  int base = 0;
  if (thread() == 0) a.cu_seqlens[0] = 0;
  for (int begin = 0; begin < a.rows; begin += kThreads) {
    const int b = begin + thread();
    int length = 0, total;
    if (b < a.rows) {
      const std::int64_t row = row_at(a.from, first + b);
      length = static_cast<int>(a.from.data.offsets[row + 1] - a.from.data.offsets[row]);
    }
    const int end = base + running_sum(length, sums, total);
    if (b < a.rows) a.cu_seqlens[b + 1] = end;
    base += total;
  }
  if (thread() == 0 && a.sequences > a.rows) a.cu_seqlens[a.sequences] = a.tokens;
}

__device__ void write_targets(const Gather& a, std::int64_t first) {
  for (int b = thread(); b < a.rows; b += kThreads) {
    float* targets = a.targets[b];
    for (int k = 0; k < a.labels; ++k) targets[k] = 0;
    const std::int64_t row = row_at(a.from, first + b);
    for (std::int64_t i = a.from.data.label_offsets[row]; i < a.from.data.label_offsets[row + 1]; ++i)
      targets[a.from.data.label_ids[i]] = 1;
  }
}

__device__ void write_tokens(const Gather& a, std::int64_t first) {
  const int lane = thread() % kWarpSize;
  for (int b = thread() / kWarpSize; b < a.sequences; b += kThreads / kWarpSize) {
    const int begin = a.cu_seqlens[b], length = a.cu_seqlens[b + 1] - begin;
    const std::int32_t* tokens =
        b < a.rows ? a.from.data.token_ids + a.from.data.offsets[row_at(a.from, first + b)] : nullptr;
    for (int i = lane; i < length; i += kWarpSize)
      a.token_ids[begin + i] = tokens == nullptr ? a.padding_id : tokens[i];
  }
}

// By one block. `sums`: shared memory as for running_sum.
__device__ void gather_rows(const Gather& a, int* sums) {
  const std::int64_t first = *a.from.next;
  write_lengths(a, first, sums);
  if (a.labels > 0) write_targets(a, first);
  __syncthreads();  // the lengths are there for all, and all have read the place in the queue
  write_tokens(a, first);
  if (thread() == 0) *a.from.next = first + a.rows;
}

// The tokens of a batch and their order by (id, row), of one array each.
struct Ranking {
  const std::int32_t* token_ids;
  std::int32_t *sorted_ids, *occurrences;
  int tokens;
  std::int32_t padding_id;

  __device__ std::int32_t key_of(int n) const {
    const std::int32_t id = n < tokens ? token_ids[n] : padding_id;
    return id == padding_id ? kPadding : id;
  }
};

// The place of token n of each thread; by all threads of a block. `tile`: shared memory for kThreads ids.
__device__ void rank_token(const Ranking& a, int n, std::int32_t* tile) {
  const std::int32_t own = a.key_of(n);
  int rank = 0;
  for (int begin = 0; begin < a.tokens; begin += kThreads) {
    __syncthreads();  // all have read the tile before
    tile[thread()] = a.key_of(begin + thread());
    __syncthreads();
    const int count = min(kThreads, a.tokens - begin);
    for (int i = 0; i < count; ++i) rank += tile[i] < own || (tile[i] == own && begin + i < n) ? 1 : 0;
  }
  if (n >= a.tokens) return;
  a.sorted_ids[rank] = own;
  a.occurrences[rank] = n;
}

struct UniqueIds {
  const std::int32_t* sorted_ids;  // rising
  std::int32_t *ids, *offsets;
  int tokens;
};

// By one block. `sums`: shared memory as for running_sum.
__device__ void list_unique(const UniqueIds& a, int* sums) {
  int unique = 0, listed = 0;
  for (int begin = 0; begin < a.tokens; begin += kThreads) {
    const int i = begin + thread();
    const std::int32_t id = i < a.tokens ? a.sorted_ids[i] : kPadding;
    const bool counts = id != kPadding, is_first = counts && (i == 0 || a.sorted_ids[i - 1] != id);
    int found, of_tile;
    const int place = unique + running_sum(is_first ? 1 : 0, sums, found) - 1;
    if (is_first) a.ids[place] = id, a.offsets[place] = i;
    unique += found;
    running_sum(counts ? 1 : 0, sums, of_tile);
    listed += of_tile;
  }
  for (int u = unique + thread(); u <= a.tokens; u += kThreads) {
    if (u < a.tokens) a.ids[u] = -1;
    a.offsets[u] = listed;
  }
}

__global__ void __launch_bounds__(kThreads) gather_rows_kernel(Gather a) {
  EMBER_SHARED(int, sums, kThreads);
  gather_rows(a, sums);
}

__global__ void __launch_bounds__(kThreads) rank_tokens_kernel(Ranking a) {
  EMBER_SHARED(std::int32_t, tile, kThreads);
  rank_token(a, static_cast<int>(blockIdx.x) * kThreads + thread(), tile);
}

__global__ void __launch_bounds__(kThreads) list_unique_kernel(UniqueIds a) {
  EMBER_SHARED(int, sums, kThreads);
  list_unique(a, sums);
}

__global__ void __launch_bounds__(kThreads) gather_small_kernel(Gather gather, Ranking ranking, UniqueIds unique) {
  EMBER_SHARED(int, shared, kThreads);
  gather_rows(gather, shared);
  __syncthreads();  // the tokens are there for all
  for (int n = thread(); n - thread() < ranking.tokens; n += kThreads) rank_token(ranking, n, shared);
  __syncthreads();  // their order is
  list_unique(unique, shared);
}

}  // namespace

BatchShape CudaKernels::batch_shape(const BatchShape& exact, std::int64_t positions) const {
  const std::int64_t granularity = std::min(kGranularity, positions);
  const auto rounded = [](std::int64_t value, std::int64_t to) { return (value + to - 1) / to * to; };
  const std::int64_t tokens = rounded(exact.tokens + 1, granularity);
  const std::int64_t longest = std::max(exact.max_length, tokens - exact.tokens);
  return {exact.rows, exact.rows + 1, tokens, std::min(rounded(longest, kGranularity), positions)};
}

Batch CudaKernels::gather_batch(const BatchArrays& arrays, const RowQueue& queue, const BatchShape& shape,
                                std::int32_t padding_id) {
  const auto tokens = static_cast<int>(shape.tokens);
  const bool scored = !arrays.targets.empty();
  require(shape.sequences - shape.rows <= 1 && (!scored || arrays.targets.rows == shape.rows), "gather_batch: shapes");
  const Gather gather{arrays.token_ids,
                      arrays.cu_seqlens,
                      rows_of<float>(arrays.targets),
                      queue,
                      static_cast<int>(shape.rows),
                      static_cast<int>(shape.sequences),
                      tokens,
                      static_cast<int>(scored ? arrays.targets.cols : 0),
                      padding_id};
  auto* sorted_ids = static_cast<std::int32_t*>(scratch(static_cast<std::size_t>(tokens) * sizeof(std::int32_t)));
  const Ranking ranking{arrays.token_ids, sorted_ids, arrays.occurrences, tokens, padding_id};
  const UniqueIds unique{sorted_ids, arrays.unique_ids, arrays.unique_offsets, tokens};
  if (tokens <= kSmall) {
    launch("gather_small", stream(), dim3(1), dim3(kThreads), 0, gather_small_kernel, gather, ranking, unique);
  } else {
    launch("gather_rows", stream(), dim3(1), dim3(kThreads), 0, gather_rows_kernel, gather);
    launch("rank_tokens", stream(), dim3(blocks_for(tokens, kThreads)), dim3(kThreads), 0, rank_tokens_kernel, ranking);
    launch("list_unique", stream(), dim3(1), dim3(kThreads), 0, list_unique_kernel, unique);
  }
  return batch_of(arrays, shape, shape.tokens);
}

}  // namespace ember
