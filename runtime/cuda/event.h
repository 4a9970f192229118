// A CUDA event, owned: a place in a stream that the host or another stream can wait for.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>

#include "runtime/cuda/stream.h"

namespace ember {

class Event {
 public:
  enum class Kind { ordering, timing };
  explicit Event(Kind kind = Kind::ordering);
  cudaEvent_t get() const { return handle_.get(); }

  void record(const Stream& stream) const;  // replaces an earlier record
  // Whether the stream has come to the record; true without one. Does not wait.
  bool happened() const;
  // Returns when the stream has come to the record; at once without one.
  void synchronize() const;
  // `stream` goes on no earlier than the record.
  void block(const Stream& stream) const;
  // Between the records of two events of Kind::timing, both of which have happened.
  static float milliseconds(const Event& start, const Event& end);

 private:
  struct Destroy {
    void operator()(cudaEvent_t event) const noexcept;
  };
  std::unique_ptr<CUevent_st, Destroy> handle_;
};

// Whether the stream was told to wait for an event since this was last asked of it.
bool take_wait(cudaStream_t stream);

}  // namespace ember
