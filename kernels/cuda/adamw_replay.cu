// What rows of a table have missed of AdamW (Kernels::adamw_replay, adamw_catch_up), update by update, so that their
// bits are those of adamw.cu's.
//
//   adamw_replay  a thread per element of a row, in registers from update to update: 26 bytes an element however many
//                 updates it missed; a square root and a division an element and update while momentum shows in the
//                 weight, then a few products. A row may have missed thousands, so that what counts is how soon a
//                 multiprocessor is through with one row's: hence three blocks for 312 columns.
//
// A row's count of updates is trusted to stand where the contract says: it lies in device memory.
#include "kernels/adamw_checks.h"
#include "kernels/adamw_update.h"
#include "kernels/cuda/adamw_state.cuh"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/reduce.cuh"
#include "runtime/cuda/launch.h"

namespace ember {
namespace {

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
    adamw_replay_kernel(AdamWState table, const std::int32_t* ids, int count, const std::int32_t* also,
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
