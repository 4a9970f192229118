// Unlike the core, compiled with whatever sanitizers the kernels have: these are the copying thread's accesses.
#include "simt/copies.h"

#include <vector_types.h>

namespace simt {

void begin_copy(void* shared, const void* global, Place place) {
  require_shared_row(shared, "begin_copy", place);
  remember_copy({shared, global});
}

void await_copies() {
  Copy copy{};
  while (take_copy(copy)) *static_cast<uint4*>(copy.to) = *static_cast<const uint4*>(copy.from);
}

}  // namespace simt
