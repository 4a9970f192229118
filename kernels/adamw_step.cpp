// Several operations of the optimizer in one, by their definition: for backends to which a call costs nothing.
#include "kernels/kernels.h"
#include "kernels/require.h"

namespace ember {

void Kernels::adamw_catch_up(const AdamWParameter& table, const std::int32_t* ids, std::int64_t count,
                             const std::int32_t* also, std::int32_t* row_updates, const AdamWUpdate* schedule,
                             const StepState* state) {
  adamw_replay(table, ids, count, row_updates, schedule, state);
  adamw_replay(table, also, 1, row_updates, schedule, state);
}

void Kernels::adamw_step(std::span<const AdamWParameter> parameters, const AdamWParameter& table,
                         const std::int32_t* ids, std::int32_t* row_updates, const AdamWUpdate* schedule,
                         StepState* state, float max_norm, const LossScaling& scaling, const StepLog& log) {
  adamw_rows(table, ids, row_updates, schedule, state, max_norm);
  adamw(parameters, schedule, state, max_norm);
  finish_step(state, scaling, log);
}

void Kernels::start_updates(ParameterGroups groups, const AdamWUpdate* schedule, StepState* before, float max_norm) {
  require(on_host() && !groups.empty(), "start_updates: a device needs its own; a group is needed");
  for (const std::span<const AdamWParameter> group : groups) adamw(group, schedule, before, max_norm);
  before->finite = 0;
}

}  // namespace ember
