// The end of a step: three scalars (the contract: Kernels::finish_step).
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/step_state.h"

namespace ember {

void CpuKernels::finish_step(StepState* state, const LossScaling& scaling, const StepLog& log) {
  finish(*state, scaling, log);
}

}  // namespace ember
