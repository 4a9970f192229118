// The end of a step on the device (Kernels::finish_step): one thread counts it and adapts the loss scale.
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/step_state.h"
#include "runtime/cuda/launch.h"

namespace ember {
namespace {

__global__ void finish_step_kernel(StepState* state, LossScaling scaling) {
  finish(*state, scaling);
}

}  // namespace

void CudaKernels::finish_step(StepState* state, const LossScaling& scaling) {
  launch("finish_step", stream(), dim3(1), dim3(1), 0, finish_step_kernel, state, scaling);
}

}  // namespace ember
