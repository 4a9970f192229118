#include "runtime/cuda/check.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include "runtime/error.h"

namespace ember {
namespace {

thread_local std::int64_t launch_count = 0, synchronisation_count = 0;

// What was told last. A device that is lost gives the same error to every call from then on.
std::atomic<cudaError_t> told = cudaSuccess;

// Errors that say that Ember called CUDA wrongly, or that a kernel did something that it must not.
bool is_defect(cudaError_t status) {
  switch (status) {
    case cudaErrorInvalidValue:
    case cudaErrorInvalidConfiguration:
    case cudaErrorInvalidDeviceFunction:
    case cudaErrorInvalidResourceHandle:
    case cudaErrorInvalidMemcpyDirection:
    case cudaErrorInvalidSymbol:
    case cudaErrorInvalidDevicePointer:
    case cudaErrorIllegalState:
    case cudaErrorIllegalAddress:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorHardwareStackError:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchOutOfResources:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorNotSupported:
    case cudaErrorStreamCaptureUnsupported:
    case cudaErrorStreamCaptureInvalidated:
    case cudaErrorStreamCaptureMerge:
    case cudaErrorStreamCaptureUnmatched:
    case cudaErrorStreamCaptureUnjoined:
    case cudaErrorStreamCaptureIsolation:
    case cudaErrorStreamCaptureImplicit:
    case cudaErrorCapturedEvent:
    case cudaErrorStreamCaptureWrongThread:
      return true;
    default:
      return false;
  }
}

// What the user can do about it, as a clause.
std::string remedy(cudaError_t status) {
  if (status != cudaErrorNoKernelImageForDevice && status != cudaErrorUnsupportedPtxVersion) return "";
  std::string clause = "; build with -DCMAKE_CUDA_ARCHITECTURES for this GPU (86 for compute capability 8.6)";
  // A driver runs the code of any toolkit of its major version, but translates no newer one's PTX.
  if (status == cudaErrorUnsupportedPtxVersion) clause += ", or install a driver as new as the toolkit";
  return clause;
}

}  // namespace

void check_cuda(cudaError_t status, std::string_view doing) {
  if (status == cudaSuccess) return;
  const std::string message =
      fmt::format("CUDA: {}: {} ({}){}", doing, cudaGetErrorString(status), cudaGetErrorName(status), remedy(status));
  cudaGetLastError();  // it has been told; the next call is not to tell it again
  told = status;
  if (is_defect(status)) throw std::logic_error(message);
  throw Error(message);
}

void report_cuda(cudaError_t status, std::string_view doing) noexcept {
  if (status == cudaSuccess || status == cudaErrorCudartUnloading || told.exchange(status) == status) return;
  std::fprintf(stderr, "CUDA: %.*s: %s\n", static_cast<int>(doing.size()), doing.data(), cudaGetErrorString(status));
}

std::int64_t launches() noexcept {
  return launch_count;
}

void count_launch() noexcept {
  ++launch_count;
}

std::int64_t synchronisations() noexcept {
  return synchronisation_count;
}

void count_synchronisation() noexcept {
  ++synchronisation_count;
}

void check_launched(const char* kernel, cudaStream_t stream) {
  count_launch();
  check_cuda(cudaGetLastError(), kernel);
  static const bool synchronous = [] {
    const char* text = std::getenv("EMBER_CUDA_SYNC");
    return text != nullptr && std::strcmp(text, "1") == 0;
  }();
  if (!synchronous) return;
  cudaStreamCaptureStatus status{};
  check_cuda(cudaStreamIsCapturing(stream, &status), kernel);
  if (status == cudaStreamCaptureStatusNone) check_cuda(cudaStreamSynchronize(stream), kernel);
}

}  // namespace ember
