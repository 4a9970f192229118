// A stream beside another: work that does not depend on each other and fills the device by halves runs at the same
// time. In a capture it becomes a branch of the graph.
#pragma once

#include "runtime/cuda/event.h"
#include "runtime/cuda/stream.h"

namespace ember {

class SideStream {
 public:
  // What is given to it from here on runs after all that `main` was given so far, and beside what it is given next.
  const Stream& begin(const Stream& main) const {
    begun_.record(main);
    begun_.block(stream_);
    return stream_;
  }
  // `main` goes on when the side is done.
  void join(const Stream& main) const {
    done_.record(stream_);
    done_.block(main);
  }

 private:
  Stream stream_;
  Event begun_, done_;
};

}  // namespace ember
