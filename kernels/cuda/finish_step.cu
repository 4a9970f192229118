// The end of a step on the device (Kernels::finish_step): one thread counts it, adapts the loss scale and leaves the
// record.
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/step_state.h"
#include "runtime/cuda/launch.h"

namespace ember {
namespace {

__global__ void finish_step_kernel(StepState* state, LossScaling scaling, StepLog log) {
  await_previous_grid();
  finish(*state, scaling, log);
}

}  // namespace

void CudaKernels::finish_step(StepState* state, const LossScaling& scaling, const StepLog& log) {
  launch_early("finish_step", stream(), dim3(1), dim3(1), 0, finish_step_kernel, state, scaling, log);
  settled_ = false;
}

}  // namespace ember
