// The device and the errors of the emulated CUDA runtime, and the launch of a kernel.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string_view>

#include "simt/block.h"
#include "simt/core.h"
#include "simt/grid.h"
#include "simt/launch.h"
#include "simt/runtime_state.h"

namespace simt {
namespace {

// Each host thread has its own of both.
cudaError_t& last_error() {
  thread_local cudaError_t error = cudaSuccess;
  return error;
}

int& current_device() {
  thread_local int index = 0;
  return index;
}

// The dynamic shared memory that cudaFuncSetAttribute allowed each kernel.
std::map<const void*, std::size_t>& allowed_shared() {
  static auto& instance = *new std::map<const void*, std::size_t>;
  return instance;
}

bool valid_shape(dim3 grid, dim3 block) {
  const std::size_t threads = std::size_t{block.x} * block.y * block.z;
  return grid.x > 0 && grid.y > 0 && grid.z > 0 && grid.x <= 0x7FFFFFFF && grid.y <= 65535 && grid.z <= 65535 &&
         threads > 0 && threads <= kMostThreads && block.z <= 64;
}

Device device_of_environment() {
  Device device;
  const char* text = std::getenv("EMBER_SIMT_DEVICE");
  if (text == nullptr || std::string_view(text) == "9.0") return device;
  if (std::string_view(text) != "7.5") {
    std::fprintf(stderr, "simt: EMBER_SIMT_DEVICE is '%s'; 7.5 or 9.0 was expected\n", text);
    std::abort();
  }
  device.major = 7;
  device.minor = 5;
  return device;
}

bool starts_early(const cudaLaunchConfig_t& config) {
  for (unsigned i = 0; i < config.numAttrs; ++i)
    if (config.attrs[i].id == cudaLaunchAttributeProgrammaticStreamSerialization &&
        config.attrs[i].val.programmaticStreamSerializationAllowed != 0)
      return true;
  return false;
}

}  // namespace

Device& device() {
  static Device instance = device_of_environment();
  return instance;
}

cudaError_t result(cudaError_t error) {
  if (error != cudaSuccess) last_error() = error;
  return error;
}

cudaError_t state_of_device() {
  if (device().fault != cudaSuccess) return device().fault;
  if (device().driver_version / 1000 < CUDART_VERSION / 1000) return cudaErrorInsufficientDriver;
  return device().count == 0 ? cudaErrorNoDevice : cudaSuccess;
}

void require_device_pointer(const void* pointer, int argument) {
  if (pointer == nullptr || is_device_memory(pointer, 0) || is_pinned_memory(pointer, 0)) return;
  std::fprintf(stderr, "simt: argument %d of a kernel is a pointer that the device cannot reach\n", argument);
  std::fflush(stderr);
  std::abort();
}

std::size_t allowed_shared_of(const void* kernel) {
  const auto allowed = allowed_shared().find(kernel);
  return std::clamp(allowed == allowed_shared().end() ? 0 : allowed->second, kShared, device().most_shared());
}

cudaError_t launch_grid(const cudaLaunchConfig_t& config, const void* kernel, std::function<void()> thread) {
  if (!valid_shape(config.gridDim, config.blockDim)) return result(cudaErrorInvalidConfiguration);
  if (config.dynamicSmemBytes > allowed_shared_of(kernel)) return result(cudaErrorInvalidValue);
  const bool early = starts_early(config);
  const auto run = [config, kernel, early, thread = std::move(thread)] {
    const std::size_t allowed = allowed_shared_of(kernel);
    // What a device does then is not documented.
    if (config.dynamicSmemBytes > allowed)
      report(fmt::format("a recorded launch has {} bytes of shared memory, its kernel is now allowed {}",
                         config.dynamicSmemBytes, allowed));
    const std::size_t most = allowed > kShared ? device().most_shared() : kShared;
    run_grid(config.gridDim, config.blockDim, config.dynamicSmemBytes, most, early, thread);
  };
  return perform(config.stream, run, early);
}

}  // namespace simt

using simt::result;

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 ||
      static_cast<std::size_t>(value) > simt::device().most_shared())
    return result(cudaErrorInvalidValue);
  simt::allowed_shared()[kernel] = static_cast<std::size_t>(value);
  return result(cudaSuccess);
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* kernel) {
  *attributes = {};
  attributes->maxDynamicSharedSizeBytes = static_cast<int>(simt::allowed_shared_of(kernel));
  return result(cudaSuccess);
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = simt::device().count;
  return result(simt::state_of_device());
}

cudaError_t cudaSetDevice(int index) {
  if (index < 0 || index >= simt::device().count) return result(cudaErrorInvalidDevice);
  simt::current_device() = index;
  return result(simt::state_of_device());
}

cudaError_t cudaGetDevice(int* index) {
  *index = simt::current_device();
  return result(simt::state_of_device());
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int index) {
  if (index < 0 || index >= simt::device().count) return result(cudaErrorInvalidDevice);
  *properties = cudaDeviceProp{};
  std::snprintf(properties->name, sizeof properties->name, "SIMT emulator");
  properties->major = simt::device().major;
  properties->minor = simt::device().minor;
  properties->totalGlobalMem = simt::device().memory;
  properties->multiProcessorCount = simt::device().multiprocessors;
  properties->sharedMemPerBlock = simt::kShared;
  properties->sharedMemPerBlockOptin = simt::device().most_shared();
  properties->warpSize = simt::kWarpSize;
  return result(simt::state_of_device());
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = simt::device().driver_version;
  return result(cudaSuccess);
}

cudaError_t cudaDeviceSynchronize() {
  if (const cudaError_t error = simt::outside_captures(); error != cudaSuccess) return result(error);
  simt::wait_for_all();
  return result(cudaSuccess);
}

cudaError_t cudaGetLastError() {
  return std::exchange(simt::last_error(), cudaSuccess);
}

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
#define EMBER_SIMT_NAME(name) \
  case name:                  \
    return #name;
    EMBER_SIMT_NAME(cudaSuccess)
    EMBER_SIMT_NAME(cudaErrorInvalidValue)
    EMBER_SIMT_NAME(cudaErrorMemoryAllocation)
    EMBER_SIMT_NAME(cudaErrorInvalidConfiguration)
    EMBER_SIMT_NAME(cudaErrorInsufficientDriver)
    EMBER_SIMT_NAME(cudaErrorNoDevice)
    EMBER_SIMT_NAME(cudaErrorInvalidDevice)
    EMBER_SIMT_NAME(cudaErrorNoKernelImageForDevice)
    EMBER_SIMT_NAME(cudaErrorInvalidResourceHandle)
    EMBER_SIMT_NAME(cudaErrorIllegalState)
    EMBER_SIMT_NAME(cudaErrorIllegalAddress)
    EMBER_SIMT_NAME(cudaErrorStreamCaptureUnsupported)
    EMBER_SIMT_NAME(cudaErrorStreamCaptureInvalidated)
    EMBER_SIMT_NAME(cudaErrorStreamCaptureMerge)
    EMBER_SIMT_NAME(cudaErrorStreamCaptureUnmatched)
    EMBER_SIMT_NAME(cudaErrorStreamCaptureUnjoined)
    EMBER_SIMT_NAME(cudaErrorStreamCaptureIsolation)
    EMBER_SIMT_NAME(cudaErrorCapturedEvent)
    EMBER_SIMT_NAME(cudaErrorUnknown)
#undef EMBER_SIMT_NAME
    default:
      return "an error that the emulator has no name for";
  }
}

const char* cudaGetErrorString(cudaError_t error) {
  return cudaGetErrorName(error);
}
