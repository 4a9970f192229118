// AdamW: dense, for the rows that a batch touched, and the replay of what the other rows missed (Kernels::adamw).
// Dense moves 28 bytes an element and is bound by memory; replay loads a row once however many updates it missed, and
// is bound by one square root and one division per element and update until the row's momentum has ended.
#include <algorithm>
#include <cstdint>

#include "kernels/adamw_checks.h"
#include "kernels/adamw_update.h"
#include "kernels/cpu/bf16.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/team.h"
#include "kernels/require.h"
#include "runtime/ceil_div.h"

namespace ember {
namespace {

constexpr std::int64_t kChunk = 8192;  // elements of a dense tensor per task: 128 KB, so that bf16 copies hit the cache
constexpr int kBlock = 32;             // elements replayed together in registers
constexpr int kRowsPerTask = 8;

// `update` by value: a reference could alias the floats that the loop writes.
void update_span(float* weights, float* m, float* v, const float* gradient, std::int64_t count, float gradient_scale,
                 const AdamWUpdate update) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) update_element(weights[i], m[i], v[i], gradient_scale * gradient[i], update);
}

// Without an epsilon, an element that never had a gradient would be 0 / 0.
const AdamWUpdate& update_of(const AdamWUpdate* schedule, const StepState& state) {
  const AdamWUpdate& update = schedule[state.updates];
  require(update.epsilon > 0, "adamw: epsilon must be positive");
  return update;
}

// One row of a table, or the part of a dense tensor from `begin` on.
struct Span {
  Span(const AdamWParameter& tensors, std::int64_t begin)
      : weights(tensors.weights.f32() + begin),
        m(tensors.first_moment.f32() + begin),
        v(tensors.second_moment.f32() + begin),
        working(tensors.working.empty() ? nullptr : static_cast<std::uint16_t*>(tensors.working.data) + begin) {}

  void update(const float* gradient, std::int64_t count, float scale, const AdamWUpdate& update) const {
    update_span(weights, m, v, gradient, count, scale, update);
    if (working != nullptr) round_row(working, weights, count);
  }

  float *weights, *m, *v;
  std::uint16_t* working;
};

bool all_zero(const float* values) {
  bool nonzero = false;
  for (int i = 0; i < kBlock; ++i) nonzero |= values[i] != 0;
  return !nonzero;
}

// The state of kBlock elements, filled up with zeros, which no update changes.
struct Block {
  alignas(64) float weights[kBlock] = {}, m[kBlock] = {}, v[kBlock] = {};

  // Applies the updates of `history` until the momentum has ended; returns how many that were.
  std::size_t update(std::span<const AdamWUpdate> history) {
    constexpr std::size_t kBetweenLooks = 16;
    for (std::size_t t = 0; t < history.size(); ++t) {
      if (t % kBetweenLooks == 0 && all_zero(m)) return t;
      const AdamWUpdate step = history[t];
#pragma omp simd
      for (int i = 0; i < kBlock; ++i) update_element(weights[i], m[i], v[i], 0.0f, step);
    }
    return history.size();
  }

  void decay(std::span<const AdamWUpdate> history) {
    const bool any_v = !all_zero(v);
    for (const AdamWUpdate step : history) {
#pragma omp simd
      for (int i = 0; i < kBlock; ++i) weights[i] = decayed_weight(weights[i], step);
      if (!any_v) continue;
#pragma omp simd
      for (int i = 0; i < kBlock; ++i) v[i] = decayed_second_moment(v[i], step);
    }
  }
};

void replay_row(const Span& row, std::int64_t cols, std::span<const AdamWUpdate> history) {
  for (std::int64_t begin = 0; begin < cols; begin += kBlock) {
    const std::int64_t count = std::min<std::int64_t>(kBlock, cols - begin);
    Block block;
    std::copy_n(row.weights + begin, count, block.weights);
    std::copy_n(row.m + begin, count, block.m);
    std::copy_n(row.v + begin, count, block.v);
    block.decay(history.subspan(block.update(history)));
    std::copy_n(block.weights, count, row.weights + begin);
    std::copy_n(block.m, count, row.m + begin);
    std::copy_n(block.v, count, row.v + begin);
  }
  if (row.working != nullptr) round_row(row.working, row.weights, cols);
}

}  // namespace

void CpuKernels::adamw(std::span<const AdamWParameter> parameters, const AdamWUpdate* schedule, const StepState* state,
                       float max_norm) {
  for (const AdamWParameter& parameter : parameters) {
    require_adamw_state(parameter, DType::bf16);
    require_adamw_gradient(parameter);
  }
  if (state->finite == 0 || parameters.empty()) return;
  const AdamWUpdate decayed = update_of(schedule, *state), plain = without_decay(decayed);
  const float scale = gradient_scale(*state, max_norm);
  in_team(threads_, [&](const Team& team) {
    for (const AdamWParameter& parameter : parameters) {
      const std::int64_t size = parameter.weights.size();
      const AdamWUpdate& update = parameter.decayed ? decayed : plain;
      team.share(ceil_div(size, kChunk), [&](std::int64_t c) {
        const std::int64_t begin = c * kChunk;
        Span(parameter, begin).update(parameter.gradient.f32() + begin, std::min(kChunk, size - begin), scale, update);
      });
    }
  });
}

void CpuKernels::adamw_rows(const AdamWParameter& table, const std::int32_t* ids, std::int32_t* row_updates,
                            const AdamWUpdate* schedule, const StepState* state, float max_norm) {
  require_adamw_state(table, DType::bf16);
  require_adamw_row_gradient(table);
  const Tensor& gradient = table.gradient;
  const std::int64_t rows = gradient.rows, cols = table.weights.cols;
  for (std::int64_t u = 0; u < rows; ++u) {
    if (ids[u] == -1) continue;
    require(ids[u] >= 0 && ids[u] < table.weights.rows, "adamw_rows: no such row");
    require(row_updates[ids[u]] == state->updates, "adamw_rows: a row has missed updates");
  }
  if (rows == 0 || cols == 0 || state->finite == 0) return;
  const AdamWUpdate decayed = update_of(schedule, *state), update = table.decayed ? decayed : without_decay(decayed);
  const float scale = gradient_scale(*state, max_norm);
  parallel_for(rows, threads_, [&](std::int64_t u) {
    if (ids[u] == -1) return;
    Span(table, ids[u] * cols).update(gradient.row(u), cols, scale, update);
    row_updates[ids[u]] = state->updates + 1;
  });
}

void CpuKernels::adamw_replay(const AdamWParameter& table, const std::int32_t* ids, std::int64_t count,
                              std::int32_t* row_updates, const AdamWUpdate* schedule, const StepState* state) {
  require_adamw_state(table, DType::bf16);
  require(table.decayed, "adamw_replay: the table must be decayed");
  const std::int64_t rows = ids == nullptr ? table.weights.rows : count, cols = table.weights.cols;
  const std::int32_t target = state->updates;
  for (std::int64_t u = 0; u < rows; ++u) {
    const std::int64_t id = ids == nullptr ? u : ids[u];
    if (id == -1) continue;
    require(id >= 0 && id < table.weights.rows, "adamw_replay: no such row");
    require(row_updates[id] >= 0 && row_updates[id] <= target, "adamw_replay: a row is ahead of the run");
  }
  // How many updates a row has missed varies from none to all.
  in_team(rows > kRowsPerTask ? threads_ : 1, [&](const Team& team) {
    team.deal(rows, kRowsPerTask, [&](std::int64_t u) {
      const std::int64_t id = ids == nullptr ? u : ids[u];
      if (id == -1 || row_updates[id] == target) return;
      replay_row(Span(table, id * cols), cols, {schedule + row_updates[id], schedule + target});
      row_updates[id] = target;
    });
  });
}

}  // namespace ember
