#include "runtime/cuda/device.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <atomic>
#include <limits>

#include "runtime/cuda/check.h"
#include "runtime/error.h"
#include "runtime/parse_whole.h"

namespace ember {
namespace {

std::atomic<bool> early_starts = false;

// 12020 is 12.2.
std::string version_text(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

int index_of(std::string_view name) {
  if (name == "cuda") return 0;
  constexpr std::string_view kPrefix = "cuda:";
  // A number in any case: of an optional g++ 12 believes under TSan that what it lacks is read.
  constexpr auto kMost = static_cast<unsigned>(std::numeric_limits<int>::max());
  const unsigned index =
      name.starts_with(kPrefix) ? parse_whole<unsigned>(name.substr(kPrefix.size())).value_or(kMost + 1) : kMost + 1;
  check(index <= kMost, "--device {}: must be cuda or cuda:N", printable(name));
  return static_cast<int>(index);
}

struct Devices {
  int count = 0;
  std::string why_none;
  bool fault = false;  // why_none is more than that nothing is there
};

Devices find_devices() {
  int driver = 0, count = 0;
  cudaError_t status = cudaDriverGetVersion(&driver);
  if (status == cudaSuccess && driver == 0) return {0, "no NVIDIA driver is installed", false};
  if (status == cudaSuccess) status = cudaGetDeviceCount(&count);
  cudaGetLastError();  // what is told here is no error of what comes after
  if (status == cudaErrorInsufficientDriver)
    return {0,
            fmt::format("the NVIDIA driver is for CUDA {}, and this program was built with CUDA {}; install a newer "
                        "driver or build with an older toolkit (12.2 or later)",
                        version_text(driver), version_text(CUDART_VERSION)),
            true};
  if (status == cudaErrorNoDevice || (status == cudaSuccess && count == 0))
    return {0, "no CUDA device was found", false};
  if (status != cudaSuccess)
    return {0, fmt::format("CUDA does not start: {} ({})", cudaGetErrorString(status), cudaGetErrorName(status)), true};
  return {count, "", false};
}

cudaDeviceProp properties_of(int index) {
  cudaDeviceProp properties{};
  check_cuda(cudaGetDeviceProperties(&properties, index), "asking what the device is");
  return properties;
}

// Empty where the kernels run on it.
std::string why_too_old(const cudaDeviceProp& device) {
  if (device.major > kOldestMajor || (device.major == kOldestMajor && device.minor >= kOldestMinor)) return {};
  return fmt::format("{} has compute capability {}.{}; {}.{} (Turing) or newer is needed", device.name, device.major,
                     device.minor, kOldestMajor, kOldestMinor);
}

}  // namespace

bool device_present(std::string& fault) {
  const Devices devices = find_devices();
  fault = devices.fault ? devices.why_none : devices.count > 0 ? why_too_old(properties_of(0)) : "";
  return devices.count > 0 && fault.empty();
}

DeviceInfo use_device(std::string_view name) {
  const int index = index_of(name);
  const Devices devices = find_devices();
  const int count = devices.count;
  check(count > 0, "--device {}: {}; use --device cpu", name, devices.why_none);
  check(index < count, "--device {}: there {} {} CUDA device{}, counted from 0", name, count == 1 ? "is" : "are", count,
        count == 1 ? "" : "s");
  const cudaDeviceProp properties = properties_of(index);
  const std::string too_old = why_too_old(properties);
  check(too_old.empty(), "--device {}: {}; use --device cpu", name, too_old);
  check_cuda(cudaSetDevice(index), name);
  check_cuda(cudaFree(nullptr), name);  // makes the context, which fails here and now when the device is not to be had
  return {index,
          properties.name,
          properties.major,
          properties.minor,
          static_cast<std::size_t>(properties.l2CacheSize),
          properties.multiProcessorCount,
          properties.sharedMemPerBlockOptin};
}

bool starts_early() noexcept {
  return early_starts;
}

void allow_early_starts(const DeviceInfo& device, bool code_can_await) {
  constexpr int kFirstMajor = 9, kFirstVersion = 12030;
  int driver = 0;
  check_cuda(cudaDriverGetVersion(&driver), "asking for the driver's version");
  early_starts = code_can_await && device.major >= kFirstMajor && std::min(driver, CUDART_VERSION) >= kFirstVersion;
}

}  // namespace ember
