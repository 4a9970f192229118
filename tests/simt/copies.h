// The asynchronous copies of runtime/cuda/simt.h, emulated: until they are awaited there is NaN where they go to, which
// whatever still reads the old or already reads the new finds. Both are written by the copying thread's own
// instructions, so the sanitizers see them.
#pragma once

#include "simt/block.h"

namespace simt {

void begin_copy(void* shared, const void* global, Place place);
void await_copies();

}  // namespace simt

namespace ember {

inline void begin_copy(void* shared, const void* global, simt::Place place = simt::Place::current()) {
  simt::begin_copy(shared, global, place);
}
inline void await_copies() {
  simt::await_copies();
}

}  // namespace ember
