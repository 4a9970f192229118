// AdamW (Kernels::adamw; Loshchilov and Hutter 2019): f32 weights and moments and the f16 working copy in one pass, for
// all dense parameters in one launch; the rows of a table that a batch touched; and the replay of what other rows
// missed. What an element's update is, kernels/adamw_update.h says for every backend.
//
//   adamw         one block per chunk of kChunk elements of one parameter, 4 elements to a thread and turn. Moves 30
//                 bytes an element (reads weight, moments and gradient, writes weight, moments and the working copy).
//   adamw_rows    one block per row, 4 elements to a thread; the same bytes for U C elements.
//   adamw_replay  one block per row, 4 elements to a thread, held in registers from update to update: 26 bytes an
//                 element however many updates it missed; a square root and a division an element and update until its
//                 momentum has ended, then two products.
//
// A row's count of updates is trusted to stand where the contract says: it lies in device memory.
#include <algorithm>

#include "kernels/adamw_checks.h"
#include "kernels/adamw_update.h"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/vector_io.cuh"
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

  __device__ Elements(const State& state, std::int64_t at) {
    load<V>(weights, state.weights + at);
    load<V>(m, state.m + at);
    load<V>(v, state.v + at);
  }
  __device__ void write(const State& state, std::int64_t at) const {
    store<V>(state.weights + at, weights);
    store<V>(state.m + at, m);
    store<V>(state.v + at, v);
    if (state.working != nullptr) store<V>(state.working + at, weights);
  }
};

template <int V>
__device__ void update_elements(const State& state, std::int64_t at, const float* gradient, float scale,
                                const AdamWUpdate& update) {
  Elements<V> elements(state, at);
  float g[V];
  load<V>(g, gradient);
#pragma unroll
  for (int j = 0; j < V; ++j) update_element(elements.weights[j], elements.m[j], elements.v[j], scale * g[j], update);
  elements.write(state, at);
}

// ---- Dense ----------------------------------------------------------------------------------------------------------

constexpr int kThreads = 256;
constexpr std::int64_t kChunk = 4096;
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

__global__ void __launch_bounds__(kThreads)
    adamw_kernel(const __grid_constant__ ParameterList list, const AdamWUpdate* schedule, const StepState* step,
                 float max_norm) {
  if (step->finite == 0) return;
  const int chunk = static_cast<int>(blockIdx.x);
  int p = 0;
  while (p + 1 < list.count && list.first_chunk[p + 1] <= chunk) ++p;
  AdamWUpdate update = schedule[step->updates];
  if ((list.decayed >> p & 1) == 0) update = without_decay(update);
  const float scale = gradient_scale(*step, max_norm);
  const State state = list.state[p];
  const float* gradient = list.gradient[p];
  const std::int64_t begin = (chunk - list.first_chunk[p]) * kChunk;
  const std::int64_t end = min(begin + kChunk, static_cast<std::int64_t>(list.size[p]));
  const std::int64_t vectors_end = (list.aligned >> p & 1) != 0 ? end / 4 * 4 : begin;
  for (std::int64_t i = begin + 4 * threadIdx.x; i < vectors_end; i += 4 * kThreads)
    update_elements<4>(state, i, gradient + i, scale, update);
  for (std::int64_t i = vectors_end + threadIdx.x; i < end; i += kThreads)
    update_elements<1>(state, i, gradient + i, scale, update);
}

bool aligned(const AdamWParameter& parameter) {
  for (const Tensor* tensor :
       {&parameter.weights, &parameter.first_moment, &parameter.second_moment, &parameter.working, &parameter.gradient})
    if (reinterpret_cast<std::uintptr_t>(tensor->data) % (4 * size_of(tensor->dtype)) != 0) return false;
  return true;
}

// The next parameters of `all` that fit into a launch, and the number of chunks they have.
int take(ParameterList& list, std::span<const AdamWParameter>& all) {
  int chunks = 0;
  for (; !all.empty() && list.count < kMostParameters; all = all.subspan(1)) {
    const AdamWParameter& parameter = all.front();
    const std::int64_t size = parameter.weights.size();
    if (size == 0) continue;
    const std::uint64_t bit = std::uint64_t{1} << list.count;
    list.state[list.count] = state_of(parameter);
    list.gradient[list.count] = parameter.gradient.f32();
    list.size[list.count] = static_cast<int>(size);
    list.first_chunk[list.count++] = chunks;
    if (parameter.decayed) list.decayed |= bit;
    if (aligned(parameter)) list.aligned |= bit;
    chunks += static_cast<int>((size + kChunk - 1) / kChunk);
  }
  return chunks;
}

// ---- Rows -----------------------------------------------------------------------------------------------------------

constexpr int kRowThreads = 128;

template <int V>
__global__ void __launch_bounds__(kRowThreads)
    adamw_rows_kernel(State table, Rows<const float> gradient, bool decayed, const std::int32_t* ids,
                      std::int32_t* row_updates, const AdamWUpdate* schedule, const StepState* step, float max_norm,
                      int cols) {
  const std::int64_t id = ids[blockIdx.x];
  if (id < 0 || step->finite == 0) return;
  AdamWUpdate update = schedule[step->updates];
  if (!decayed) update = without_decay(update);
  const float scale = gradient_scale(*step, max_norm);
  for (int c = static_cast<int>(threadIdx.x) * V; c < cols; c += kRowThreads * V)
    update_elements<V>(table, id * cols + c, gradient[blockIdx.x] + c, scale, update);
  if (threadIdx.x == 0) row_updates[id] = step->updates + 1;
}

template <int V>
__device__ bool all_zero(const float (&x)[V]) {
  bool zero = true;
#pragma unroll
  for (float value : x) zero = zero && value == 0;
  return zero;
}

// Updates [from, to) of the schedule, with gradient zero.
template <int V>
__device__ void replay(Elements<V>& e, const AdamWUpdate* schedule, int from, int to) {
  constexpr int kBetweenLooks = 16;
  int t = from;
  for (; t < to; ++t) {
    if ((t - from) % kBetweenLooks == 0 && all_zero(e.m)) break;
    const AdamWUpdate update = schedule[t];
#pragma unroll
    for (int j = 0; j < V; ++j) update_element(e.weights[j], e.m[j], e.v[j], 0.0f, update);
  }
  for (; t < to; ++t) {
    const AdamWUpdate update = schedule[t];
#pragma unroll
    for (int j = 0; j < V; ++j) {
      e.weights[j] = decayed_weight(e.weights[j], update);
      e.v[j] = decayed_second_moment(e.v[j], update);
    }
  }
}

template <int V>
__global__ void __launch_bounds__(kRowThreads)
    adamw_replay_kernel(State table, const std::int32_t* ids, std::int32_t* row_updates, const AdamWUpdate* schedule,
                        const StepState* step, int cols) {
  const std::int64_t id = ids == nullptr ? static_cast<int>(blockIdx.x) : ids[blockIdx.x];
  if (id < 0) return;
  const int from = row_updates[id], to = step->updates;
  if (from == to) return;
  for (int c = static_cast<int>(threadIdx.x) * V; c < cols; c += kRowThreads * V) {
    Elements<V> elements(table, id * cols + c);
    replay(elements, schedule, from, to);
    elements.write(table, id * cols + c);
  }
  __syncthreads();  // all have read the count
  if (threadIdx.x == 0) row_updates[id] = to;
}

bool aligned_rows(const AdamWParameter& table) {
  return vectorises(4, {table.weights, table.first_moment, table.second_moment}) &&
         (table.working.empty() || vectorises(4, {table.working}));
}

}  // namespace

void CudaKernels::adamw(std::span<const AdamWParameter> parameters, const AdamWUpdate* schedule, const StepState* state,
                        float max_norm) {
  for (const AdamWParameter& parameter : parameters) {
    require_adamw_state(parameter, DType::f16);
    require_adamw_gradient(parameter);
  }
  while (!parameters.empty()) {
    ParameterList list{};
    const int chunks = take(list, parameters);
    if (chunks == 0) continue;
    launch("adamw", stream(), dim3(static_cast<unsigned>(chunks)), dim3(kThreads), 0, adamw_kernel, list, schedule,
           state, max_norm);
  }
}

void CudaKernels::adamw_rows(const AdamWParameter& table, const std::int32_t* ids, std::int32_t* row_updates,
                             const AdamWUpdate* schedule, const StepState* state, float max_norm) {
  require_adamw_state(table, DType::f16);
  require_adamw_row_gradient(table);
  const Tensor& gradient = table.gradient;
  if (gradient.empty()) return;
  launch("adamw_rows", stream(), dim3(static_cast<unsigned>(gradient.rows)), dim3(kRowThreads), 0,
         aligned_rows(table) && vectorises(4, {gradient}) ? adamw_rows_kernel<4> : adamw_rows_kernel<1>,
         state_of(table), rows_of<const float>(gradient), table.decayed, ids, row_updates, schedule, state, max_norm,
         static_cast<int>(gradient.cols));
}

void CudaKernels::adamw_replay(const AdamWParameter& table, const std::int32_t* ids, std::int64_t count,
                               std::int32_t* row_updates, const AdamWUpdate* schedule, const StepState* state) {
  require_adamw_state(table, DType::f16);
  require(table.decayed, "adamw_replay: the table must be decayed");
  const std::int64_t rows = ids == nullptr ? table.weights.rows : count;
  if (rows == 0 || table.weights.empty()) return;
  launch("adamw_replay", stream(), dim3(static_cast<unsigned>(rows)), dim3(kRowThreads), 0,
         aligned_rows(table) ? adamw_replay_kernel<4> : adamw_replay_kernel<1>, state_of(table), ids, row_updates,
         schedule, state, static_cast<int>(table.weights.cols));
}

}  // namespace ember
