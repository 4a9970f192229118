// AdamW (Kernels::adamw; Loshchilov and Hutter 2019): f32 weights and moments and the f16 working copy in one pass, for
// all dense parameters and the rows of a table that a batch touched in one launch, which may end the step, too; and the
// replay of what other rows missed. What an element's update is, kernels/adamw_update.h says for every backend.
//
// Weights and moments are the largest thing that a step touches, and no part of them is touched again before the next
// step. So they leave the second-level cache first, which keeps the working copies, the next step's products, there.
//
//   adamw         one block per chunk of kChunk elements of one parameter, 4 elements to a thread and turn. Moves 30
//                 bytes an element (reads weight, moments and gradient, writes weight, moments and the working copy).
//   adamw_rows    one block per row, 4 elements to a thread; the same bytes for U C elements.
//   adamw_step    both, and the last block counts the step when all have read the count.
//   adamw_replay  a thread per element of a row, in registers from update to update: 26 bytes an element however many
//                 updates it missed; a square root and a division an element and update while momentum shows in the
//                 weight, then a few products. A row may have missed thousands, so that what counts is how soon a
//                 multiprocessor is through with one row's: hence three blocks for 312 columns.
//
// A row's count of updates is trusted to stand where the contract says: it lies in device memory.
#include <algorithm>
#include <limits>

#include "kernels/adamw_checks.h"
#include "kernels/adamw_update.h"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vector_io.cuh"
#include "kernels/cuda/work_list.cuh"
#include "kernels/step_state.h"
#include "runtime/cuda/launch.h"

namespace ember {
namespace {

// One parameter, or a part of it; working is null where there is no such copy.
struct State {
  float *weights, *m, *v;
  __half* working;
};

State state_of(const AdamWParameter& parameter) {
  return {parameter.weights.f32(), parameter.first_moment.f32(), parameter.second_moment.f32(),
          parameter.working.empty() ? nullptr : static_cast<__half*>(parameter.working.data)};
}

// V elements of a parameter in registers.
template <int V>
struct Elements {
  float weights[V], m[V], v[V];

  __device__ void ask(const State& state, std::int64_t at) {
    load_once<V>(weights, state.weights + at);
    load_once<V>(m, state.m + at);
    load_once<V>(v, state.v + at);
  }
  __device__ void update(const float (&gradient)[V], float scale, const AdamWUpdate& by) {
#pragma unroll
    for (int j = 0; j < V; ++j) update_element(weights[j], m[j], v[j], scale * gradient[j], by);
  }
  __device__ void write(const State& state, std::int64_t at) const {
    store_once<V>(state.weights + at, weights);
    store_once<V>(state.m + at, m);
    store_once<V>(state.v + at, v);
    if (state.working != nullptr) store<V>(state.working + at, weights);
  }
};

template <int V>
__device__ void update_elements(const State& state, std::int64_t at, const float* gradient, float scale,
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
constexpr int kTurns = 2;  // of vectors of 4 to a thread
constexpr std::int64_t kChunk = 4 * kTurns * kThreads;
constexpr int kMostParameters = 64;  // a launch: the list is a kernel's argument, which holds 4,096 bytes

struct ParameterList {
  State state[kMostParameters];
  const float* gradient[kMostParameters];
  int size[kMostParameters];
  int first_chunk[kMostParameters];
  std::uint64_t decayed;  // a bit each
  std::uint64_t aligned;  // whether vectors of 4 may be read
  int count;
};

// Rows of a table.
struct RowUpdates {
  State table;
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

  State state_;
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

// What a block takes from the step's state. Its first thread reads that for all, so that the state may change once
// every block's first thread has come to the end (last_block).
struct StepAtHand {
  float scale;
  std::int32_t updates;
  bool finite;
};

// A block's share of the update of the step at hand, after what it could ask for before that.
__device__ StepAtHand read_step(const StepState& step, float max_norm) {
  EMBER_SHARED(StepAtHand, at_hand, 1);
  if (threadIdx.x == 0) at_hand[0] = {gradient_scale(step, max_norm), step.updates, step.finite != 0};
  __syncthreads();
  return at_hand[0];
}

// Blocks [0, chunks): the list's chunks; then the rows. With `finishing` the last block ends the step.
__global__ void __launch_bounds__(kThreads)
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
    chunks += static_cast<int>((size + kChunk - 1) / kChunk);
  }
  return chunks;
}

// ---- Replay ---------------------------------------------------------------------------------------------------------

constexpr int kRowThreads = 128;
constexpr int kTogether = 8;    // updates that may be done without a look at each
constexpr int kReplayed = 128;  // updates in shared memory: elsewhere each would be waited for

struct Element {
  float weight, m, v;
};

// Whether momentum shows in a weight that has just decayed. Its share is step_size m / denominator; below 2^-25 of the
// weight it is less than half the way to a neighbouring number, so that the sum rounds to the weight. The denominator
// is at least epsilon and at least sqrt(v) inverse_correction, which is compared by its square. 2^-26 leaves room for
// the roundings here.
__device__ bool momentum_shows(const Element& e, const AdamWUpdate& update) {
  constexpr float kInvisible = 0x1p-26f;
  const float share = fabsf(update.step_size * e.m), least = kInvisible * fabsf(e.weight);
  const float corrected = least * update.inverse_correction;
  return e.m != 0 && !(share < least * update.epsilon) && !(share * share < corrected * corrected * e.v);
}

// Does updates [0, kTogether) of `schedule`, with gradient zero, if momentum shows in none; else nothing, and false.
__device__ bool only_decay(Element& element, const AdamWUpdate* schedule) {
  Element e = element;
  bool shows = false;
#pragma unroll
  for (int j = 0; j < kTogether; ++j) {
    const AdamWUpdate update = schedule[j];
    e = {decayed_weight(e.weight, update), decayed_first_moment(e.m, update), decayed_second_moment(e.v, update)};
    shows = shows || momentum_shows(e, update);
  }
  if (!shows) element = e;
  return !shows;
}

// `count` updates with gradient zero. Momentum shows for some hundred of them and is zero after some eight hundred.
__device__ void replay(Element& e, const AdamWUpdate* updates, int count) {
  int t = 0;
  for (; e.m != 0 && count - t >= kTogether; t += kTogether) {
    if (!momentum_shows(e, updates[t]) && only_decay(e, updates + t)) continue;
#pragma unroll 4
    for (int j = 0; j < kTogether; ++j) update_without_gradient(e.weight, e.m, e.v, updates[t + j]);
  }
  if (e.m != 0) {
    for (; t < count; ++t) update_without_gradient(e.weight, e.m, e.v, updates[t]);
    return;
  }
#pragma unroll 8
  for (; t < count; ++t) {
    e.weight = decayed_weight(e.weight, updates[t]);
    e.v = decayed_second_moment(e.v, updates[t]);
  }
}

// The block's next kReplayed updates of the schedule, on their way from memory while it does those before.
struct UpdatesAhead {
  static constexpr int kWords = sizeof(AdamWUpdate) / sizeof(uint4), kEach = kReplayed * kWords / kRowThreads;
  uint4 words[kEach];

  __device__ UpdatesAhead(const AdamWUpdate* schedule, int from, int to) { ask(schedule, from, to); }
  __device__ void ask(const AdamWUpdate* schedule, int from, int to) {
#pragma unroll
    for (int j = 0; j < kEach; ++j) {
      const int i = j * kRowThreads + static_cast<int>(threadIdx.x);
      if (from + i / kWords < to) words[j] = reinterpret_cast<const uint4*>(schedule + from)[i];
    }
  }
  __device__ void put(uint4* shared) const {
#pragma unroll
    for (int j = 0; j < kEach; ++j) shared[j * kRowThreads + static_cast<int>(threadIdx.x)] = words[j];
  }
};

// blockIdx.x: a row, blockIdx.y: kRowThreads of its columns. arrived[blockIdx.x] counts the blocks that have read how
// many updates the row has seen; the last says how many it has seen now.
__global__ void __launch_bounds__(kRowThreads)
    adamw_replay_kernel(State table, const std::int32_t* ids, int count, const std::int32_t* also,
                        std::int32_t* row_updates, const AdamWUpdate* schedule, const StepState* step, int cols,
                        unsigned* arrived) {
  await_previous_grid();
  EMBER_SHARED(uint4, updates, kReplayed * UpdatesAhead::kWords);
  const int row = static_cast<int>(blockIdx.x);
  const std::int64_t id = row == count ? *also : ids == nullptr ? row : ids[row];
  if (id < 0) return;
  const int from = row_updates[id], to = step->updates;
  if (from == to) return;
  const int c = static_cast<int>(blockIdx.y * kRowThreads + threadIdx.x);
  const std::int64_t at = id * cols + c;
  Element e{};
  if (c < cols) e = {table.weights[at], table.m[at], table.v[at]};
  UpdatesAhead ahead(schedule, from, to);
  for (int t = from; t < to; t += kReplayed) {
    if (t > from) __syncthreads();  // all have read the updates before
    ahead.put(updates);
    __syncthreads();
    ahead.ask(schedule, t + kReplayed, to);
    if (c < cols) replay(e, reinterpret_cast<const AdamWUpdate*>(updates), min(kReplayed, to - t));
  }
  if (c < cols) {
    table.weights[at] = e.weight, table.m[at] = e.m, table.v[at] = e.v;
    if (table.working != nullptr) table.working[at] = __float2half_rn(e.weight);
  }
  if (threadIdx.x == 0 && arrives_last(arrived + row, gridDim.y)) row_updates[id] = to;
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

// All parameters in as few launches as their lists fill, the rows in the last one; `finishing` as in the kernel. Early
// only if the grid before does not write the parameters.
void update(GridStart start, cudaStream_t stream, std::span<const AdamWParameter> parameters, const RowUpdates& rows,
            const AdamWUpdate* schedule, const StepState* state, float max_norm, const LossScaling& scaling,
            const StepLog& log, unsigned* finishing) {
  for (const AdamWParameter& parameter : parameters) {
    require_adamw_state(parameter, DType::f16);
    require_adamw_gradient(parameter);
  }
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

void replay(cudaStream_t stream, const AdamWParameter& table, const std::int32_t* ids, std::int64_t count,
            const std::int32_t* also, std::int32_t* row_updates, const AdamWUpdate* schedule, const StepState* state,
            unsigned* arrived) {
  require_adamw_state(table, DType::f16);
  require(table.decayed, "adamw_replay: the table must be decayed");
  const std::int64_t rows = count + (also == nullptr ? 0 : 1);
  if (rows == 0 || table.weights.empty()) return;
  const dim3 grid(static_cast<unsigned>(rows), blocks_for(table.weights.cols, kRowThreads));
  launch_early("adamw_replay", stream, grid, dim3(kRowThreads), 0, adamw_replay_kernel, state_of(table), ids,
               static_cast<int>(count), also, row_updates, schedule, state, static_cast<int>(table.weights.cols),
               arrived);
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

void CudaKernels::adamw_replay(const AdamWParameter& table, const std::int32_t* ids, std::int64_t count,
                               std::int32_t* row_updates, const AdamWUpdate* schedule, const StepState* state) {
  const std::int64_t rows = ids == nullptr ? table.weights.rows : count;
  replay(stream(), table, ids, rows, nullptr, row_updates, schedule, state, arrivals(rows));
  settled_ = false;
}

void CudaKernels::adamw_catch_up(const AdamWParameter& table, const std::int32_t* ids, std::int64_t count,
                                 const std::int32_t* also, std::int32_t* row_updates, const AdamWUpdate* schedule,
                                 const StepState* state) {
  replay(stream(), table, ids, count, also, row_updates, schedule, state, arrivals(count + 1));
  settled_ = false;
}

}  // namespace ember
