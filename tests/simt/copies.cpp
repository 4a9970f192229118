// Unlike the core, compiled with whatever sanitizers the kernels have: these are the copying thread's accesses.
#include "simt/copies.h"

#include <vector_types.h>

#include <cstdint>

#include "simt/core.h"
#include "simt/runtime_state.h"

namespace simt {
namespace {

// PTX ISA, "cp.async": what is copied lies in global memory, aligned to the size of the copy.
void require_global_row(const void* row, Place place) {
  constexpr std::size_t kBytes = 16;
  if (reinterpret_cast<std::uintptr_t>(row) % kBytes != 0)
    report("begin_copy from an address that is not a multiple of 16 bytes", place);
  if (!is_device_memory(row, kBytes) && !is_pinned_memory(row, kBytes))
    report("begin_copy from what is not within one block of device memory", place);
}

}  // namespace

void begin_copy(void* shared, const void* global, Place place) {
  require_shared_row(shared, "begin_copy", place);
  require_global_row(global, place);
  static_cast<void>(*static_cast<const volatile std::uint32_t*>(global));
  *static_cast<uint4*>(shared) = {~0u, ~0u, ~0u, ~0u};
  remember_copy(shared, global);
}

void await_copies() {
  commit_copies();
  await_copies_but(0);
}

void await_copies_but(unsigned groups) {
  Copy copy{};
  while (take_copy(copy, groups)) *static_cast<uint4*>(copy.to) = *static_cast<const uint4*>(copy.from);
}

}  // namespace simt
