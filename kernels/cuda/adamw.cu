// AdamW (Kernels::adamw; Loshchilov and Hutter 2019): f32 weights and moments and the f16 working copy in one pass, for
// all dense parameters and the rows of a table that a batch touched in one launch, which may end the step, too. What
// other rows miss is replayed in adamw_replay.cu; what an element's update is, kernels/adamw_update.h says for every
// backend.
//
// Weights and moments are the largest thing that a step touches, and no part of them is touched again before the next
// step. So they leave the second-level cache first, which keeps the working copies, the next step's products, there.
//
//   adamw         one block per chunk of kChunk elements of one parameter, 4 elements to a thread and turn. Moves 30
//                 bytes an element (reads weight, moments and gradient, writes weight, moments and the working copy).
//   adamw_rows    one block per row, 4 elements to a thread; the same bytes for U C elements.
//   adamw_step    both, and the last block counts the step when all have read the count.
//   start_updates adamw beside the next step's first kernels, by a few blocks that take its chunks in turns.
//
// A row's count of updates is trusted to stand where the contract says: it lies in device memory.
#include <algorithm>
#include <limits>

#include "kernels/adamw_checks.h"
#include "kernels/adamw_update.h"
#include "kernels/cuda/adamw_state.cuh"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vector_io.cuh"
#include "kernels/cuda/work_list.cuh"
#include "kernels/step_state.h"
#include "runtime/ceil_div.h"
#include "runtime/cuda/launch.h"

namespace ember {
namespace {

// V elements of a parameter in registers.
template <int V>
struct Elements {
  float weights[V], m[V], v[V];

  __device__ void ask(const AdamWState& state, std::int64_t at) {
    load_once<V>(weights, state.weights + at);
    load_once<V>(m, state.m + at);
    load_once<V>(v, state.v + at);
  }
  __device__ void update(const float (&gradient)[V], float scale, const AdamWUpdate& by) {
#pragma unroll
    for (int j = 0; j < V; ++j) update_element(weights[j], m[j], v[j], scale * gradient[j], by);
  }
  __device__ void write(const AdamWState& state, std::int64_t at) const {
    store_once<V>(state.weights + at, weights);
    store_once<V>(state.m + at, m);
    store_once<V>(state.v + at, v);
    if (state.working != nullptr) store<V>(state.working + at, weights);
  }
};

template <int V>
__device__ void update_elements(const AdamWState& state, std::int64_t at, const float* gradient, float scale,
                                const AdamWUpdate& update) {
  Elements<V> elements;
  elements.ask(state, at);
  float g[V];
  load_once<V>(g, gradient);
  elements.update(g, scale, update);
  elements.write(state, at);
}

// ---- Dense ----------------------------------------------------------------------------------------------------------

constexpr int kThreads = 256;
constexpr int kBlocksTogether = 4;  // on a multiprocessor: on a T4 all that its threads allow
constexpr int kTurns = 2;           // of vectors of 4 to a thread
constexpr std::int64_t kChunk = 4 * kTurns * kThreads;
// Chunks that a block of start_updates takes in turn: as many as it is through with while a layer's forward of a small
// batch runs beside it. More blocks would take the memory's speed from that forward, which waits for memory most of the
// time: on an H200 all at once are slower than no start_updates (docs/performance.md).
constexpr int kInTurn = 13;
constexpr int kMostParameters = 64;  // a launch: the list is a kernel's argument, which holds 4,096 bytes

struct ParameterList {
  AdamWState state[kMostParameters];
  const float* gradient[kMostParameters];
  int size[kMostParameters];
  int first_chunk[kMostParameters];
  std::uint64_t decayed;  // a bit each
  std::uint64_t aligned;  // whether vectors of 4 may be read
  int count;
};

// Rows of a table.
struct RowUpdates {
  AdamWState table;
  Rows<const float> gradient;
  const std::int32_t* ids;
  std::int32_t* row_updates;
  int count, cols;
  bool decayed;
  bool aligned;  // whether vectors of 4 may be read
};

// A block's chunk of a parameter. Of a whole one that can be read by vectors all is asked for at once, weights and
// moments before the grid before this one is done; others take turns.
class Chunk {
 public:
  __device__ Chunk(const ParameterList& list, int chunk) {
    const int p = item_of(list.first_chunk, list.count, chunk);
    state_ = list.state[p];
    gradient_ = list.gradient[p];
    decayed_ = (list.decayed >> p & 1) != 0;
    aligned_ = (list.aligned >> p & 1) != 0;
    begin_ = (chunk - list.first_chunk[p]) * kChunk;
    end_ = min(begin_ + kChunk, static_cast<std::int64_t>(list.size[p]));
  }
  __device__ void ask() {
    if (!whole()) return;
#pragma unroll
    for (int turn = 0; turn < kTurns; ++turn) elements_[turn].ask(state_, place(turn));
  }
  __device__ void ask_gradient() {
    if (!whole()) return;
#pragma unroll
    for (int turn = 0; turn < kTurns; ++turn) load_once<4>(gradients_[turn], gradient_ + place(turn));
  }
  __device__ void update(AdamWUpdate by, float scale) {
    if (!decayed_) by = without_decay(by);
    if (!whole()) return update_in_turns(by, scale);
#pragma unroll
    for (int turn = 0; turn < kTurns; ++turn) {
      elements_[turn].update(gradients_[turn], scale, by);
      elements_[turn].write(state_, place(turn));
    }
  }

 private:
  __device__ bool whole() const {
    return aligned_ && end_ - begin_ == kChunk;
  }
  __device__ std::int64_t place(int turn) const {
    return begin_ + 4 * (turn * kThreads + threadIdx.x);
  }
  __device__ void update_in_turns(const AdamWUpdate& by, float scale) const {
    const std::int64_t vectors_end = aligned_ ? end_ / 4 * 4 : begin_;
    for (std::int64_t i = begin_ + 4 * threadIdx.x; i < vectors_end; i += 4 * kThreads)
      update_elements<4>(state_, i, gradient_ + i, scale, by);
    for (std::int64_t i = vectors_end + threadIdx.x; i < end_; i += kThreads)
      update_elements<1>(state_, i, gradient_ + i, scale, by);
  }

  AdamWState state_;
  const float* gradient_;
  std::int64_t begin_, end_;
  bool decayed_, aligned_;
  Elements<4> elements_[kTurns];
  float gradients_[kTurns][4];
};

template <int V>
__device__ void update_row(const RowUpdates& rows, int row, const AdamWUpdate& update, float scale) {
  const std::int64_t id = rows.ids[row];
  if (id < 0) return;
  for (int c = static_cast<int>(threadIdx.x) * V; c < rows.cols; c += kThreads * V)
    update_elements<V>(rows.table, id * rows.cols + c, rows.gradient[row] + c, scale, update);
}

__device__ void update_row(const RowUpdates& rows, int row, AdamWUpdate update, float scale, int updates) {
  if (!rows.decayed) update = without_decay(update);
  rows.aligned ? update_row<4>(rows, row, update, scale) : update_row<1>(rows, row, update, scale);
  if (threadIdx.x == 0 && rows.ids[row] >= 0) rows.row_updates[rows.ids[row]] = updates + 1;
}

// What a block takes from the step's state.
struct StepAtHand {
  float scale;
  std::int32_t updates;
  bool finite;
};

// Read by the block's first thread for all, so that the state may change once every block's first thread has come to
// the end (last_block). All threads call.
__device__ StepAtHand read_step(const StepState& step, float max_norm) {
  EMBER_SHARED(StepAtHand, at_hand, 1);
  if (threadIdx.x == 0) at_hand[0] = {gradient_scale(step, max_norm), step.updates, step.finite != 0};
  __syncthreads();
  return at_hand[0];
}

// Blocks [0, chunks): the list's chunks; then the rows. With `finishing` the last block ends the step.
__global__ void __launch_bounds__(kThreads, kBlocksTogether)
    adamw_kernel(const __grid_constant__ ParameterList list, const __grid_constant__ RowUpdates rows, int chunks,
                 const AdamWUpdate* schedule, StepState* step, float max_norm, LossScaling scaling, StepLog log,
                 unsigned* finishing) {
  const int block = static_cast<int>(blockIdx.x);
  if (block < chunks) {
    Chunk chunk(list, block);
    chunk.ask();
    await_previous_grid();
    chunk.ask_gradient();
    const StepAtHand now = read_step(*step, max_norm);
    if (now.finite) chunk.update(schedule[now.updates], now.scale);
  } else {
    await_previous_grid();
    const StepAtHand now = read_step(*step, max_norm);
    if (now.finite && block - chunks < rows.count)
      update_row(rows, block - chunks, schedule[now.updates], now.scale, now.updates);
  }
  if (finishing != nullptr && last_block(finishing) && threadIdx.x == 0) finish(*step, scaling, log);
}

// The list's chunks, in turns; with `finishing` the last block says that they are done.
__global__ void __launch_bounds__(kThreads)
    adamw_beside_kernel(const __grid_constant__ ParameterList list, int chunks, const AdamWUpdate* schedule,
                        StepState* before, float max_norm, unsigned* finishing) {
  const StepAtHand then = read_step(*before, max_norm);
  if (!then.finite) return;
  const AdamWUpdate by = schedule[then.updates];
  for (int c = static_cast<int>(blockIdx.x); c < chunks; c += static_cast<int>(gridDim.x)) {
    Chunk chunk(list, c);
    chunk.ask();
    chunk.ask_gradient();
    chunk.update(by, then.scale);
  }
  if (finishing != nullptr && last_block(finishing) && threadIdx.x == 0) before->finite = 0;
}

bool aligned(const AdamWParameter& parameter) {
  for (const Tensor* tensor :
       {&parameter.weights, &parameter.first_moment, &parameter.second_moment, &parameter.working, &parameter.gradient})
    if (reinterpret_cast<std::uintptr_t>(tensor->data) % (4 * size_of(tensor->dtype)) != 0) return false;
  return true;
}

// Whether `next` goes on where `parameter` ends, in all its tensors: queries, keys and values are one matrix.
bool adjacent(const AdamWParameter& parameter, const AdamWParameter& next) {
  const auto follows = [](const Tensor& a, const Tensor& b) {
    if (a.empty() || b.empty()) return a.empty() && b.empty();
    return static_cast<const std::byte*>(a.data) + static_cast<std::size_t>(a.size()) * size_of(a.dtype) == b.data;
  };
  return parameter.decayed == next.decayed && follows(parameter.weights, next.weights) &&
         follows(parameter.first_moment, next.first_moment) && follows(parameter.second_moment, next.second_moment) &&
         follows(parameter.working, next.working) && follows(parameter.gradient, next.gradient);
}

// The next parameters of `all` that fit into a launch, and the number of chunks they have.
int take(ParameterList& list, std::span<const AdamWParameter>& all) {
  int chunks = 0;
  while (!all.empty() && list.count < kMostParameters) {
    const AdamWParameter& parameter = all.front();
    std::int64_t size = parameter.weights.size();
    std::size_t merged = 1;
    for (; merged < all.size() && adjacent(all[merged - 1], all[merged]); ++merged) size += all[merged].weights.size();
    all = all.subspan(merged);
    if (size == 0) continue;
    const std::uint64_t bit = std::uint64_t{1} << list.count;
    list.state[list.count] = state_of(parameter);
    list.gradient[list.count] = parameter.gradient.f32();
    require(size <= std::numeric_limits<int>::max(), "adamw: 2^31 weights or more side by side");
    list.size[list.count] = static_cast<int>(size);
    list.first_chunk[list.count++] = chunks;
    if (parameter.decayed) list.decayed |= bit;
    if (aligned(parameter)) list.aligned |= bit;
    chunks += static_cast<int>(ceil_div(size, kChunk));
  }
  return chunks;
}

bool aligned_rows(const AdamWParameter& table) {
  return vectorises(4, {table.weights, table.first_moment, table.second_moment}) &&
         (table.working.empty() || vectorises(4, {table.working}));
}

RowUpdates row_updates_of(const AdamWParameter& table, const std::int32_t* ids, std::int32_t* row_updates) {
  require_adamw_state(table, DType::f16);
  require_adamw_row_gradient(table);
  const Tensor& gradient = table.gradient;
  if (gradient.empty()) return {};
  return {state_of(table),
          rows_of<const float>(gradient),
          ids,
          row_updates,
          static_cast<int>(gradient.rows),
          static_cast<int>(gradient.cols),
          table.decayed,
          aligned_rows(table) && vectorises(4, {gradient})};
}

void require_all(std::span<const AdamWParameter> parameters) {
  for (const AdamWParameter& parameter : parameters) {
    require_adamw_state(parameter, DType::f16);
    require_adamw_gradient(parameter);
  }
}

// All parameters in as few launches as their lists fill, the rows in the last one; `finishing` as in the kernel. Early
// only if the grid before does not write the parameters.
void update(GridStart start, cudaStream_t stream, std::span<const AdamWParameter> parameters, const RowUpdates& rows,
            const AdamWUpdate* schedule, const StepState* state, float max_norm, const LossScaling& scaling,
            const StepLog& log, unsigned* finishing) {
  require_all(parameters);
  do {
    ParameterList list{};
    const int chunks = take(list, parameters);
    const bool last = parameters.empty();
    const int blocks = chunks + (last ? rows.count : 0);
    if (blocks == 0 && !(last && finishing != nullptr)) continue;
    launch(start, "adamw", stream, dim3(static_cast<unsigned>(std::max(blocks, 1))), dim3(kThreads), 0, adamw_kernel,
           list, last ? rows : RowUpdates{}, chunks, schedule, const_cast<StepState*>(state), max_norm, scaling, log,
           last ? finishing : nullptr);
  } while (!parameters.empty());
}

}  // namespace

void CudaKernels::adamw(std::span<const AdamWParameter> parameters, const AdamWUpdate* schedule, const StepState* state,
                        float max_norm) {
  update(start_of_update(), stream(), parameters, {}, schedule, state, max_norm, {}, {}, nullptr);
}

void CudaKernels::adamw_rows(const AdamWParameter& table, const std::int32_t* ids, std::int32_t* row_updates,
                             const AdamWUpdate* schedule, const StepState* state, float max_norm) {
  update(start_of_update(), stream(), {}, row_updates_of(table, ids, row_updates), schedule, state, max_norm, {}, {},
         nullptr);
}

void CudaKernels::adamw_step(std::span<const AdamWParameter> parameters, const AdamWParameter& table,
                             const std::int32_t* ids, std::int32_t* row_updates, const AdamWUpdate* schedule,
                             StepState* state, float max_norm, const LossScaling& scaling, const StepLog& log) {
  update(start_of_update(), stream(), parameters, row_updates_of(table, ids, row_updates), schedule, state, max_norm,
         scaling, log, arrivals());
}

void CudaKernels::start_updates(ParameterGroups groups, const AdamWUpdate* schedule, StepState* before,
                                float max_norm) {
  require(!groups.empty(), "start_updates: a group is needed");
  for (const std::span<const AdamWParameter> parameters : groups) require_all(parameters);
  finish_updates();
  const Stream& side = updates_side_.begin(stream_);
  for (std::span<const AdamWParameter> parameters : groups) {
    const bool last = updates_started_ + 1 == groups.size();
    do {
      ParameterList list{};
      const int chunks = take(list, parameters);
      unsigned* finishing = last && parameters.empty() ? static_cast<unsigned*>(updates_arrival_.data()) : nullptr;
      launch("start_updates", side, dim3(std::max(blocks_for(chunks, kInTurn), 1u)), dim3(kThreads), 0,
             adamw_beside_kernel, list, chunks, schedule, before, max_norm, finishing);
    } while (!parameters.empty());
    if (updates_done_.size() == updates_started_) updates_done_.emplace_back();
    updates_done_[updates_started_].record(side);
    ++updates_started_;
  }
}

bool CudaKernels::await_updates() {
  if (updates_awaited_ == updates_started_) return false;
  updates_done_[updates_awaited_].block(stream_);
  if (++updates_awaited_ == updates_started_) updates_awaited_ = updates_started_ = 0;
  return true;
}

}  // namespace ember
