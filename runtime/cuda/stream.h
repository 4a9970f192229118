// A CUDA stream, owned. It does not synchronise with the default stream, which Ember never uses.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>

namespace ember {

class Stream {
 public:
  Stream();  // on the current device
  cudaStream_t get() const { return handle_.get(); }
  operator cudaStream_t() const { return get(); }
  // Waits until all that was given to the stream is done; throws what went wrong in it.
  void synchronize() const;

 private:
  struct Destroy {
    void operator()(cudaStream_t stream) const noexcept;
  };
  std::unique_ptr<CUstream_st, Destroy> handle_;
};

}  // namespace ember
