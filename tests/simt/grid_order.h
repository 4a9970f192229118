// What TSan is told of the order of grids: that one comes after another only as CUDA promises it. A grid that starts
// early comes after the one before it where its threads await that one; each other one comes after what its stream and
// events put before it (simt/work.h), and the host after what it waits for. Such edges alone do not help, as a thread
// of the emulator comes after all that it has run before: so grids that overlap have different ones, a set each.
#pragma once

#include "simt/work.h"

namespace simt {

#ifdef EMBER_SIMT_TSAN
inline constexpr bool kTsan = true;
#else
inline constexpr bool kTsan = false;
#endif
// Two by turns for most streams, and some for those beside them.
inline constexpr int kSetsBeside = 2, kSets = kTsan ? 2 + kSetsBeside : 1;

class GridOrder {
 public:
  // For the launching thread: what it runs until the next call is this.
  void begin(const Work& work);
  // What it does itself from here on comes after all grids so far.
  void await_all();

  // The set that runs the grid that has begun, and whether that starts before the one before it has ended.
  int set() const { return set_; }
  bool overlaps() const { return kTsan && work_->beside != nullptr; }

  // For each of the grid's threads: first of all, in await_previous_grid(), last of all.
  void thread_begins();
  void thread_awaits();
  void thread_ends();

 private:
  char ends_[kSets]{};  // tags (simt/fiber.h)
  const Work* work_ = nullptr;
  int set_ = 0, by_turns_ = 0;
};

GridOrder& grid_order();

}  // namespace simt
