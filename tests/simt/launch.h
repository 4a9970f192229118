// cudaLaunchKernelEx for the emulator: CUDA's template of that name hands the kernel to the driver by address; this one
// calls it.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <functional>
#include <type_traits>
#include <utility>

namespace simt {

// Aborts with a report unless the kernel's argument points into memory that a device could reach (or is null).
void require_device_pointer(const void* pointer, int argument);

// Gives the grid to the stream, or records it where that is being captured.
cudaError_t launch_grid(const cudaLaunchConfig_t& config, const void* kernel, std::function<void()> thread);

template <typename T>
void require_reachable(const T& argument, int index) {
  if constexpr (std::is_pointer_v<T>) require_device_pointer(argument, index);
}

template <typename... Parameters, typename... Arguments>
cudaError_t launch_kernel(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...), Arguments&&... arguments) {
  return [&](Parameters... values) {
    int index = 0;
    (require_reachable(values, index++), ...);
    // By value: a captured launch runs later.
    return launch_grid(*config, reinterpret_cast<const void*>(kernel), [kernel, values...] { kernel(values...); });
  }(std::forward<Arguments>(arguments)...);
}

}  // namespace simt

#define cudaLaunchKernelEx ::simt::launch_kernel
