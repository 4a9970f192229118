#include "kernels/cuda/cuda_kernels.h"
#include "runtime/cuda/device.h"

namespace ember {

std::unique_ptr<Kernels> make_cuda_kernels(std::string_view device) {
  return std::make_unique<CudaKernels>(device);
}

bool cuda_device_present(std::string& fault) {
  return device_present(fault);
}

}  // namespace ember
