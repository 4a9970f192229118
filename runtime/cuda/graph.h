// A CUDA graph, owned: work that was given to a stream once and can be launched again as a whole.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <memory>

#include "runtime/cuda/stream.h"

namespace ember {

class Graph {
 public:
  Graph() = default;  // none; launching it is a defect
  // Calls `work`, which gives work to `stream` and does nothing else with the device (allocating and waiting are
  // errors). It is recorded with the arguments it has now, and not run. What `work` throws is thrown on; the stream can
  // be used.
  Graph(const Stream& stream, const std::function<void()>& work);

  explicit operator bool() const { return executable_ != nullptr; }
  void launch(const Stream& stream) const;

 private:
  struct Destroy {
    void operator()(cudaGraphExec_t graph) const noexcept;
  };
  std::unique_ptr<CUgraphExec_st, Destroy> executable_;
};

}  // namespace ember
