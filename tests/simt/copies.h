// The asynchronous copies of runtime/cuda/simt.h, emulated: they take place when they are awaited, by the awaiting
// thread's own instructions, so that whatever reads too early finds NaN and the sanitizers see the access.
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
