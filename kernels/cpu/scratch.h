// Memory that grows to what was asked for at most and is then used again, so that a step allocates nothing. Each
// request ends the one before it.
#pragma once

#include <algorithm>

#include "runtime/arena.h"

namespace ember {

class Scratch {
 public:
  void* operator()(std::size_t bytes) {
    if (memory_.size() < bytes) memory_ = host_buffer(std::max(bytes, 2 * memory_.size()));
    return memory_.data();
  }

 private:
  Buffer memory_;
};

}  // namespace ember
