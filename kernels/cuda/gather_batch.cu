// A batch from a data set on the device (Kernels::gather_batch), so that a step needs nothing of the host.
//
//   gather_rows   one block: zeros for the targets, a warp per row; the running sum of the rows' lengths, kThreads rows
//                 at a time; then their tokens, a warp per row, and their labels, a thread per row. Moves 8 N + 4 B K
//                 bytes.
//   rank_tokens   the place of each token in the order of (id, row of the batch) is the number of tokens before it
//                 there, which a thread per token counts: N² comparisons, for the 308 tokens of a step fewer than a
//                 sort has barriers to wait for. At 65,536 tokens it is 4.3e9, a few hundredths of such a step's
//                 operations.
//   list_unique   one block: where the id changes in that order, a new one begins; a running sum numbers them. Moves
//                 16 N bytes.
//
// Up to kSmall tokens one block does all three, and has what one leaves to the next in shared memory. It is a chain of
// waits for memory (the place in the queue, the row there, its offsets, its tokens), so each is asked for once.
//
// The padding id counts as the largest of all and is cut off at the end.
#include <algorithm>
#include <limits>

#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/vector_io.cuh"
#include "kernels/require.h"
#include "runtime/ceil_div.h"
#include "runtime/cuda/launch.h"

namespace ember {
namespace {

constexpr int kThreads = 512, kWarps = kThreads / kWarpSize;
constexpr int kSmall = 1024;  // tokens
constexpr std::uint32_t kPadding = std::numeric_limits<std::int32_t>::max(), kBeyond = ~std::uint32_t{0};

__device__ int thread() {
  return static_cast<int>(threadIdx.x);
}

// The sum of the values of this thread and of those before it in the block; `total`: of all. `sums`: shared memory for
// kWarps values, free again on return. Within a warp by doubling distances, Hillis and Steele, "Data parallel
// algorithms" (CACM 1986).
__device__ int running_sum(int value, int* sums, int& total) {
  const int lane = thread() % kWarpSize, warp = thread() / kWarpSize;
#pragma unroll
  for (int distance = 1; distance < kWarpSize; distance *= 2) {
    const int before = __shfl_up_sync(~0u, value, static_cast<unsigned>(distance));
    if (lane >= distance) value += before;
  }
  if (lane == kWarpSize - 1) sums[warp] = value;
  __syncthreads();
  total = 0;
#pragma unroll
  for (int w = 0; w < kWarps; ++w) {
    const int of_warp = sums[w];
    total += of_warp;
    if (w < warp) value += of_warp;
  }
  __syncthreads();  // all have read the sums
  return value;
}

struct Gather {
  std::int32_t *token_ids, *cu_seqlens;
  Rows<float> targets;
  RowQueue from;
  int rows, sequences, tokens, labels;  // labels: 0 without targets
  std::int32_t padding_id;
};

// Of kThreads rows of a batch at a time, in shared memory.
struct RowPlaces {
  std::int64_t start[kThreads];  // of their tokens in the data set
  int end[kThreads];             // in the batch
  int sums[kWarps];
};

// The labels of a row, its first one asked for already: it comes from memory while the row's tokens do.
struct RowLabels {
  const std::int32_t* ids = nullptr;
  int count = 0;
  std::int32_t first = 0;

  __device__ void ask(const DataRows& data, std::int64_t row) {
    const std::int64_t begin = data.label_offsets[row];
    ids = data.label_ids + begin;
    count = static_cast<int>(data.label_offsets[row + 1] - begin);
    if (count > 0) first = *ids;
  }
  __device__ void mark(float* targets) const {
    if (count > 0) targets[first] = 1;
    for (int i = 1; i < count; ++i) targets[ids[i]] = 1;
  }
};

__device__ void clear_targets(const Gather& a) {
  for (int b = thread() / kWarpSize; b < a.rows; b += kWarps)
    for (int k = thread() % kWarpSize; k < a.labels; k += kWarpSize) a.targets[b][k] = 0;
}

// By one block. `keys`, if not null: the tokens once more, as rank_small wants them.
__device__ void gather_rows(const Gather& a, RowPlaces& places, std::uint32_t* keys) {
  const auto write_token = [&](int n, std::int32_t id) {
    a.token_ids[n] = id;
    if (keys != nullptr) keys[n] = id == a.padding_id ? kPadding : static_cast<std::uint32_t>(id);
  };
  const std::int64_t first = *a.from.next;
  if (thread() == 0) a.cu_seqlens[0] = 0;
  clear_targets(a);
  int base = 0;
  for (int begin = 0; begin < a.rows; begin += kThreads) {
    const int b = begin + thread(), rows = min(kThreads, a.rows - begin);
    std::int64_t row = 0;
    int length = 0, total;
    RowLabels labels;
    if (b < a.rows) {
      row = a.from.order == nullptr ? first + b : a.from.order[first + b];
      const std::int64_t start = a.from.data.offsets[row];
      length = static_cast<int>(a.from.data.offsets[row + 1] - start);
      places.start[thread()] = start;
      if (a.labels > 0) labels.ask(a.from.data, row);
    }
    const int end = base + running_sum(length, places.sums, total);
    if (b < a.rows) a.cu_seqlens[b + 1] = places.end[thread()] = end;
    __syncthreads();  // the places are there
    for (int r = thread() / kWarpSize; r < rows; r += kWarps) {
      const int from = r == 0 ? base : places.end[r - 1], count = places.end[r] - from;
      const std::int32_t* tokens = a.from.data.token_ids + places.start[r];
      for (int i = thread() % kWarpSize; i < count; i += kWarpSize) write_token(from + i, tokens[i]);
    }
    if (b < a.rows) labels.mark(a.targets[b]);  // cleared before the barriers of the running sum
    base += total;
    __syncthreads();  // all have read the places, and the place in the queue
  }
  for (int n = base + thread(); n < a.tokens; n += kThreads) write_token(n, a.padding_id);
  if (thread() != 0) return;
  if (a.sequences > a.rows) a.cu_seqlens[a.sequences] = a.tokens;
  if (a.rows > 0) *a.from.next = first + a.rows;
}

// The tokens of a batch and their order by (id, row), of one array each.
struct Ranking {
  const std::int32_t* token_ids;
  std::uint32_t* sorted_ids;
  std::int32_t* occurrences;
  int tokens;
  std::int32_t padding_id;

  __device__ std::uint32_t key_of(int n) const {
    const std::int32_t id = n < tokens ? token_ids[n] : padding_id;
    return id == padding_id ? kPadding : static_cast<std::uint32_t>(id);
  }
  __device__ void place(int n, std::uint32_t key, int rank) const {
    sorted_ids[rank] = key;
    occurrences[rank] = n;
  }
};

// Whether a token stands before token n in the order, for token i with key `other`.
__device__ int is_before(std::uint32_t other, int i, std::uint32_t own, int n) {
  return other < own + (i < n ? 1u : 0u) ? 1 : 0;
}

// The place of token n of each thread; by all threads of a block. `tile`: shared memory for kThreads ids.
__device__ void rank_token(const Ranking& a, int n, std::uint32_t* tile) {
  const std::uint32_t own = a.key_of(n);
  int rank = 0;
  for (int begin = 0; begin < a.tokens; begin += kThreads) {
    __syncthreads();  // all have read the tile before
    tile[thread()] = a.key_of(begin + thread());
    __syncthreads();
    const int count = min(kThreads, a.tokens - begin);
    for (int i = 0; i < count; ++i) rank += is_before(tile[i], begin + i, own, n);
  }
  if (n < a.tokens) a.place(n, own, rank);
}

// The same for all tokens, by one block. `keys`: of the tokens, in shared memory, then up to a multiple of 4 what is
// larger than any.
__device__ void rank_small(const Ranking& a, const std::uint32_t* keys) {
  for (int n = thread(); n < a.tokens; n += kThreads) {
    const std::uint32_t own = keys[n];
    int rank = 0;
#pragma unroll 4
    for (int i = 0; i < a.tokens; i += 4) {
      const uint4 four = *reinterpret_cast<const uint4*>(keys + i);
      rank += is_before(four.x, i, own, n) + is_before(four.y, i + 1, own, n) + is_before(four.z, i + 2, own, n) +
              is_before(four.w, i + 3, own, n);
    }
    a.place(n, own, rank);
  }
}

struct UniqueIds {
  const std::uint32_t* sorted_ids;  // rising
  std::int32_t *ids, *offsets;
  int tokens;
};

// By one block. `sums`: as for running_sum.
__device__ void list_unique(const UniqueIds& a, int* sums) {
  constexpr int kListed = 1 << 16;  // a token that is no padding counts so, beside the ids that begin
  int unique = 0, listed = 0;
  for (int begin = 0; begin < a.tokens; begin += kThreads) {
    const int i = begin + thread();
    const std::uint32_t id = i < a.tokens ? a.sorted_ids[i] : kPadding;
    const bool counts = id != kPadding, is_first = counts && (i == 0 || a.sorted_ids[i - 1] != id);
    int of_tile;
    const int sum = running_sum((is_first ? 1 : 0) + (counts ? kListed : 0), sums, of_tile);
    const int place = unique + sum % kListed - 1;
    if (is_first) a.ids[place] = static_cast<std::int32_t>(id), a.offsets[place] = i;
    unique += of_tile % kListed;
    listed += of_tile / kListed;
  }
  for (int u = unique + thread(); u <= a.tokens; u += kThreads) {
    if (u < a.tokens) a.ids[u] = -1;
    a.offsets[u] = listed;
  }
}

// One block: nothing else wants the registers.
__global__ void __launch_bounds__(kThreads, 1) gather_rows_kernel(Gather a) {
  await_previous_grid();
  EMBER_SHARED(RowPlaces, places, 1);
  gather_rows(a, places[0], nullptr);
}

__global__ void __launch_bounds__(kThreads) rank_tokens_kernel(Ranking a) {
  await_previous_grid();
  EMBER_SHARED(std::uint32_t, tile, kThreads);
  rank_token(a, static_cast<int>(blockIdx.x) * kThreads + thread(), tile);
}

__global__ void __launch_bounds__(kThreads) list_unique_kernel(UniqueIds a) {
  await_previous_grid();
  EMBER_SHARED(int, sums, kWarps);
  list_unique(a, sums);
}

__global__ void __launch_bounds__(kThreads, 1) gather_small_kernel(Gather gather, Ranking ranking, UniqueIds unique) {
  await_previous_grid();
  EMBER_SHARED(RowPlaces, places, 1);
  EMBER_SHARED(std::uint32_t, keys, kSmall + 4);
  EMBER_SHARED(std::uint32_t, sorted, kSmall);
  if (thread() < 4) keys[gather.tokens + thread()] = kBeyond;
  gather_rows(gather, places[0], keys);
  __syncthreads();  // the keys are there for all
  ranking.sorted_ids = sorted;
  rank_small(ranking, keys);
  __syncthreads();  // their order is
  unique.sorted_ids = sorted;
  list_unique(unique, places[0].sums);
}

}  // namespace

BatchShape CudaKernels::batch_shape(const BatchShape& exact, std::int64_t positions) const {
  const std::int64_t granularity = std::min(kRowStep, positions);
  const std::int64_t tokens = round_up(exact.tokens + 1, granularity);
  const std::int64_t longest = std::max(exact.max_length, tokens - exact.tokens);
  return {exact.rows, exact.rows + 1, tokens, std::min(round_up(longest, kRowStep), positions)};
}

Batch CudaKernels::gather_batch(const BatchArrays& arrays, const RowQueue& queue, const BatchShape& shape,
                                std::int32_t padding_id) {
  const auto tokens = static_cast<int>(shape.tokens);
  const bool scored = !arrays.targets.empty();
  require((shape.sequences == shape.rows || shape.sequences == shape.rows + 1) &&
              (!scored || arrays.targets.rows == shape.rows),
          "gather_batch: shapes");
  const Gather gather{arrays.token_ids,
                      arrays.cu_seqlens,
                      rows_of<float>(arrays.targets),
                      queue,
                      static_cast<int>(shape.rows),
                      static_cast<int>(shape.sequences),
                      tokens,
                      static_cast<int>(scored ? arrays.targets.cols : 0),
                      padding_id};
  auto* sorted_ids = static_cast<std::uint32_t*>(scratch(static_cast<std::size_t>(tokens) * sizeof(std::uint32_t)));
  const Ranking ranking{arrays.token_ids, sorted_ids, arrays.occurrences, tokens, padding_id};
  const UniqueIds unique{sorted_ids, arrays.unique_ids, arrays.unique_offsets, tokens};
  if (tokens <= kSmall) {
    launch_early("gather_small", stream(), dim3(1), dim3(kThreads), 0, gather_small_kernel, gather, ranking, unique);
  } else {
    launch_early("gather_rows", stream(), dim3(1), dim3(kThreads), 0, gather_rows_kernel, gather);
    launch_early("rank_tokens", stream(), dim3(blocks_for(tokens, kThreads)), dim3(kThreads), 0, rank_tokens_kernel,
                 ranking);
    launch_early("list_unique", stream(), dim3(1), dim3(kThreads), 0, list_unique_kernel, unique);
  }
  settled_ = false;
  return batch_of(arrays, shape, shape.tokens);
}

}  // namespace ember
