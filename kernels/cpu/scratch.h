// Memory that grows to what was asked for at most and is then used again, so that a step allocates nothing. Each
// request ends the one before it; in a debug build the memory is then NaN, so that a kernel shows which reads what it
// has not written.
#pragma once

#include <algorithm>
#include <cstring>

#include "runtime/arena.h"

namespace ember {

class Scratch {
 public:
  void* operator()(std::size_t bytes) {
    if (memory_.size() < bytes) memory_ = host_buffer(std::max(bytes, 2 * memory_.size()));
#ifndef NDEBUG
    if (memory_.size() > 0) std::memset(memory_.data(), 0xFF, memory_.size());
#endif
    return memory_.data();
  }

 private:
  Buffer memory_;
};

}  // namespace ember
