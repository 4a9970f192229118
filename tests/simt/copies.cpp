// Unlike the core, compiled with whatever sanitizers the kernels have: these are the copying thread's accesses.
#include "simt/copies.h"

#include <vector_types.h>

#include <cstdint>

namespace simt {

void begin_copy(void* shared, const void* global, Place place) {
  require_shared_row(shared, "begin_copy", place);
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
