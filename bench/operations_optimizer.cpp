#include <algorithm>
#include <numeric>

#include "bench/operations.h"
#include "model/weights.h"

namespace ember {
namespace {

constexpr std::int32_t kMissed = 16;  // updates that a row of adamw_replay has missed

// Coefficients with which weights and moments stay of one size however often they are updated. Multiplying by them
// costs what it costs by any others.
AdamWUpdate steady_update() {
  AdamWUpdate update;
  update.beta1 = update.beta2 = 1;
  return update;
}

// What an update reads besides the parameters, `updates` updates into a run.
struct Progress {
  Progress(Workspace& w, std::int32_t updates)
      : schedule(w.upload(std::vector<AdamWUpdate>(static_cast<std::size_t>(updates) + 1, steady_update()))),
        state(w.upload<StepState>({{.updates = updates}})) {}
  const AdamWUpdate* schedule;
  StepState* state;
};

// The model's parameters but the table of words, all shapes as they are.
std::vector<AdamWParameter> dense_parameters(Workspace& w) {
  Arena measure;
  const std::vector<Parameter> list = parameters(w.model(), lay_out(w.model(), measure, 0));
  std::vector<AdamWParameter> dense;
  for (std::size_t i = 1; i < list.size(); ++i) {
    dense.push_back(w.parameter(list[i].value.rows, list[i].value.cols));
    dense.back().decayed = list[i].decayed;
  }
  return dense;
}

double weights_of(const std::vector<AdamWParameter>& list) {
  std::int64_t sum = 0;
  for (const AdamWParameter& parameter : list) sum += parameter.weights.size();
  return number(sum);
}

// The table of words, and how many updates its rows have seen.
struct Table {
  Table(Workspace& w, std::int32_t updates)
      : parameter(w.parameter(w.model().vocabulary, w.model().hidden, w.batch().unique)),
        initial(static_cast<std::size_t>(w.model().vocabulary), updates),
        row_updates(w.upload(initial)) {}
  void reset(Kernels& kernels) const {
    kernels.upload(row_updates, initial.data(), initial.size() * sizeof(std::int32_t));
  }
  AdamWParameter parameter;
  std::vector<std::int32_t> initial;
  std::int32_t* row_updates;
};

Prepared gradient_norm(Workspace& w) {
  std::vector<Tensor> gradients{w.floats(w.batch().unique, w.model().hidden)};
  for (const AdamWParameter& parameter : dense_parameters(w)) gradients.push_back(parameter.gradient);
  const auto elements = std::accumulate(gradients.begin(), gradients.end(), std::int64_t{0},
                                        [](std::int64_t sum, const Tensor& t) { return sum + t.size(); });
  const Progress progress(w, 0);
  return {[=, &w] { w.kernels().gradient_norm(progress.state, gradients); }, work::gradient_norm(number(elements))};
}

Prepared adamw(Workspace& w) {
  const std::vector<AdamWParameter> dense = dense_parameters(w);
  const Progress progress(w, 0);
  return {[=, &w] { w.kernels().adamw(dense, progress.schedule, progress.state, 1); },
          work::adamw(weights_of(dense), w.working_width())};
}

Prepared adamw_rows(Workspace& w) {
  const Progress progress(w, 0);
  const Table table(w, 0);
  const Batch batch = w.batch();
  return {[=, &w] {
            w.kernels().adamw_rows(table.parameter, batch.unique_ids, table.row_updates, progress.schedule,
                                   progress.state, 1);
          },
          work::adamw_rows(number(batch.unique), number(w.model().hidden), w.working_width()),
          [=, &w] { table.reset(w.kernels()); }};
}

Prepared adamw_replay(Workspace& w) {
  const Progress progress(w, kMissed);
  const Table table(w, 0);
  const Batch batch = w.batch();
  return {[=, &w] {
            w.kernels().adamw_replay(table.parameter, batch.unique_ids, batch.unique, table.row_updates,
                                     progress.schedule, progress.state);
          },
          work::adamw_replay(number(batch.unique), number(w.model().hidden), kMissed, w.working_width()),
          [=, &w] { table.reset(w.kernels()); }};
}

Prepared finish_step(Workspace& w) {
  const Progress progress(w, 0);
  return {[=, &w] { w.kernels().finish_step(progress.state, {}, {}); }, work::finish_step()};
}

Prepared adamw_catch_up(Workspace& w) {
  const Progress progress(w, kMissed);
  const Table table(w, 0);
  const Batch batch = w.batch();
  const std::int32_t* padding = w.upload(std::vector<std::int32_t>{static_cast<std::int32_t>(w.model().pad_token_id)});
  return {[=, &w] {
            w.kernels().adamw_catch_up(table.parameter, batch.unique_ids, batch.unique, padding, table.row_updates,
                                       progress.schedule, progress.state);
          },
          work::adamw_replay(number(batch.unique + 1), number(w.model().hidden), kMissed, w.working_width()),
          [=, &w] { table.reset(w.kernels()); }};
}

Prepared adamw_step(Workspace& w) {
  const std::vector<AdamWParameter> dense = dense_parameters(w);
  const Progress progress(w, 0);
  const Table table(w, 0);
  const Batch batch = w.batch();
  return {[=, &w] {
            w.kernels().adamw_step(dense, table.parameter, batch.unique_ids, table.row_updates, progress.schedule,
                                   progress.state, 1, {}, {});
          },
          work::adamw_step(weights_of(dense), number(batch.unique), number(w.model().hidden), w.working_width()),
          [=, &w] {
            table.reset(w.kernels());
            const StepState first;
            w.kernels().upload(progress.state, &first, sizeof first);
          }};
}

// With the time that it takes to await them.
Prepared start_updates(Workspace& w) {
  const std::vector<AdamWParameter> dense = dense_parameters(w);
  const Progress progress(w, 0);
  return {[=, &w] {
            const std::span<const AdamWParameter> all(dense);
            w.kernels().start_updates({&all, 1}, progress.schedule, progress.state, 1);
            w.kernels().await_updates();
          },
          work::adamw(weights_of(dense), w.working_width()),
          [=, &w] {
            const StepState due;
            w.kernels().upload(progress.state, &due, sizeof due);
          }};
}

}  // namespace

std::vector<Operation> optimizer_operations() {
  return {
      {"gradient_norm", "", Extent::model, false, gradient_norm},
      {"adamw", "", Extent::model, true, adamw},
      {"adamw_rows", "", Extent::batches, true, adamw_rows},
      {"adamw_replay", "", Extent::batches, true, adamw_replay},
      {"adamw_catch_up", "", Extent::batches, true, adamw_catch_up},
      {"finish_step", "", Extent::model, false, finish_step},
      {"adamw_step", "", Extent::batches, true, adamw_step},
      {"start_updates", "", Extent::model, true, start_updates},
  };
}

}  // namespace ember
