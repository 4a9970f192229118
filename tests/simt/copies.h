// The asynchronous copies of runtime/cuda/simt.h, emulated: until they are awaited there is NaN where they go to, which
// whatever still reads the old or already reads the new finds. Both are written by the copying thread's own
// instructions, so the sanitizers see them.
#pragma once

#include "simt/block.h"

namespace simt {

void begin_copy(void* shared, const void* global, Place place);
void await_copies();
// All but those in the thread's last `groups` and in none.
void await_copies_but(unsigned groups);

}  // namespace simt

namespace ember {

inline void begin_copy(void* shared, const void* global, simt::Place place = simt::Place::current()) {
  simt::begin_copy(shared, global, place);
}
inline void await_copies() {
  simt::await_copies();
}
inline void commit_copies() {
  simt::commit_copies();
}
template <int kGroups>
void await_copies_but() {
  simt::await_copies_but(kGroups);
}

}  // namespace ember
