// Whether the code of this library's kernels, as the driver loaded it on the device at hand, can wait for the grid
// before it (runtime/cuda/simt.h): code for sm_90 can, that for sm_75 cannot, also where a newer device runs it from
// PTX.
#include "kernels/cuda/cuda_kernels.h"
#include "runtime/cuda/launch.h"

namespace ember {
namespace {

__global__ void code_can_await_kernel(int* answer) {
  *answer = code_can_await() ? 1 : 0;
}

}  // namespace

bool CudaKernels::code_can_await() {
  const Buffer answer = allocate(sizeof(int));
  launch("code_can_await", stream(), dim3(1), dim3(1), 0, code_can_await_kernel, static_cast<int*>(answer.data()));
  int on_host = 0;
  download(&on_host, answer.data(), sizeof on_host);
  return on_host != 0;
}

}  // namespace ember
