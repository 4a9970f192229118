#include "runtime/cuda/device.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <atomic>
#include <charconv>

#include "runtime/cuda/check.h"
#include "runtime/error.h"

namespace ember {
namespace {

std::atomic<bool> early_starts = false;

// 12020 is 12.2.
std::string version_text(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

int index_of(std::string_view name) {
  constexpr std::string_view kPrefix = "cuda";
  int index = 0;
  bool valid = name.starts_with(kPrefix);
  if (valid && name != kPrefix) {
    const char* end = name.data() + name.size();
    const char* digits = name.data() + kPrefix.size() + 1;
    const auto [stop, error] =
        name[kPrefix.size()] == ':' ? std::from_chars(digits, end, index) : std::from_chars_result{end, std::errc{1}};
    valid = error == std::errc{} && stop == end && *digits != '-';
  }
  check(valid, "--device {}: must be cuda or cuda:N", printable(name));
  return index;
}

int count_devices(std::string_view name) {
  int driver = 0, count = 0;
  check_cuda(cudaDriverGetVersion(&driver), "asking for the driver's version");
  check(driver > 0, "--device {}: no NVIDIA driver is installed; use --device cpu", name);
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaErrorInsufficientDriver) {
    cudaGetLastError();
    fail(
        "--device {}: the NVIDIA driver is for CUDA {}, and this program was built with CUDA {}; install a newer "
        "driver or "
        "build with an older toolkit (12.2 or later)",
        name, version_text(driver), version_text(CUDART_VERSION));
  }
  if (status == cudaErrorNoDevice) {
    cudaGetLastError();
    count = 0;
  } else {
    check_cuda(status, "looking for devices");
  }
  check(count > 0, "--device {}: no CUDA device was found; use --device cpu", name);
  return count;
}

}  // namespace

DeviceInfo use_device(std::string_view name) {
  const int index = index_of(name), count = count_devices(name);
  check(index < count, "--device {}: there {} {} CUDA device{}, counted from 0", name, count == 1 ? "is" : "are", count,
        count == 1 ? "" : "s");
  cudaDeviceProp properties{};
  check_cuda(cudaGetDeviceProperties(&properties, index), name);
  check(properties.major > kOldestMajor || (properties.major == kOldestMajor && properties.minor >= kOldestMinor),
        "--device {}: {} has compute capability {}.{}; {}.{} (Turing) or newer is needed; "
        "use --device cpu",
        name, properties.name, properties.major, properties.minor, kOldestMajor, kOldestMinor);
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
