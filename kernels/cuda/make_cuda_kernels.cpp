#include <cuda_runtime_api.h>

#include "kernels/cuda/cuda_kernels.h"

namespace ember {

std::unique_ptr<Kernels> make_cuda_kernels(std::string_view device) {
  return std::make_unique<CudaKernels>(device);
}

bool cuda_device_present() {
  int count = 0;
  const bool asked = cudaGetDeviceCount(&count) == cudaSuccess;
  cudaGetLastError();  // no driver, or one too old, is no error of what comes after
  return asked && count > 0;
}

}  // namespace ember
