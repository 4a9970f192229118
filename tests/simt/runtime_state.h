// Inside the emulated CUDA runtime: what its handles stand for.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <memory>
#include <vector>

#include "simt/device.h"

namespace simt {
struct GraphNode;  // simt/grid_order.h, which is the core's alone
}

// What a graph runs, in the order in which it was recorded, and the places of what must have run before: the operation
// before it in its stream and those that an event stands for.
struct SimtOperation {
  std::function<void()> run;
  std::vector<std::size_t> after;
  int branch = 0;  // of the stream: 0 is the one that began the capture
};
using SimtOperations = std::vector<SimtOperation>;

// What a capture has so far, of the stream that began it and of those that joined by an event.
struct SimtRecording {
  cudaStream_t origin = nullptr;
  SimtOperations operations;
  std::vector<cudaStream_t> forks;
};

struct CUstream_st {
  std::shared_ptr<SimtRecording> recording;  // null unless the stream is being captured
  bool rejoined = false;                     // whether the capture's origin waits for all that this fork was given
  std::vector<std::size_t> after;            // of the operation that is recorded next
};
struct CUevent_st {
  std::shared_ptr<SimtRecording> recording;  // of the capture in which it was recorded last
  cudaStream_t stream = nullptr;             // and the stream there
  std::vector<std::size_t> after;            // and what it stands for
  bool recorded = false;
  bool timed = true;
  double seconds = 0;
};
struct CUgraph_st {
  SimtOperations operations;
};
struct CUgraphExec_st {
  SimtOperations operations;
  std::vector<simt::GraphNode> nodes;  // one for each, which point at each other
};

namespace simt {

// Remembers the error for cudaGetLastError and returns it.
cudaError_t result(cudaError_t error);
// The device's fault, if a test gave it one; an error without a device or a driver that is new enough.
cudaError_t state_of_device();
// The same, and an error while any stream is being captured.
cudaError_t ready_to_allocate();
// Runs the operation now, or records it in a stream that is being captured. The null stream is refused: Ember uses
// none.
cudaError_t perform(cudaStream_t stream, std::function<void()> operation);

// Memory that cudaMalloc gave, or cudaMallocHost; both ends count as inside, since an empty array may stand there.
bool is_device_memory(const void* pointer, std::size_t bytes);
bool is_pinned_memory(const void* pointer, std::size_t bytes);

}  // namespace simt
