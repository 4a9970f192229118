// Inside the emulated CUDA runtime: what its handles stand for.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "simt/device.h"
#include "simt/work.h"

// What a capture has so far, of the stream that began it and of those that joined by an event. Its operations are never
// done themselves: their `number` is their place, and each launch of the graph does copies of them.
struct SimtRecording {
  cudaStream_t origin = nullptr;
  bool ended = false, spoilt = false;  // spoilt: by a call that no recording allows
  simt::WorkList operations;
  std::vector<cudaStream_t> forks;
};

struct CUstream_st {
  simt::WorkList after;  // of the operation that is given next
  // What the last one comes after, if the next one may start beside it.
  std::optional<simt::WorkList> before_last;
  int number = 0;  // from 1, in the order in which streams were made
  int branch = 0;  // Work::branch

  std::shared_ptr<SimtRecording> recording;  // null unless the stream is being captured
  bool rejoined = false;                     // whether the capture's origin waits for all that this fork was given
  simt::WorkList recorded;                   // `after` of the operation that is recorded next

  // `after` of the operation that it is given next, or that is recorded next.
  simt::WorkList& last() { return recording == nullptr ? after : recorded; }
};
struct CUevent_st {
  std::shared_ptr<SimtRecording> recording;  // of the capture in which it was recorded last
  cudaStream_t stream = nullptr;             // where
  int branch = 0;                            // the stream's
  simt::WorkList after;                      // and what it stands for
  bool timed = true;
  std::shared_ptr<double> seconds;  // once it has happened; null where it was never recorded
};
struct CUgraph_st {
  simt::WorkList operations, last;
};
struct CUgraphExec_st : CUgraph_st {};

namespace simt {

// Remembers the error for cudaGetLastError and returns it.
cudaError_t result(cudaError_t error);
// The device's fault, if a test gave it one; an error without a device or a driver that is new enough.
cudaError_t state_of_device();
// The same, and while any stream is being captured an error that spoils the capture: for what allocates, waits or looks
// at how far the device is (NVIDIA, CUDA Runtime API, "cudaThreadExchangeStreamCaptureMode"). In whatever mode: they
// differ in what other threads may do, and Ember calls CUDA from one alone.
cudaError_t outside_captures();
// Gives the operation to the stream, or records it where that is being captured. `run` calls run_grid or run_library
// once (simt/grid.h); `early`: it may start beside the operation before it. The null stream is refused, since Ember
// uses none.
cudaError_t perform(cudaStream_t stream, std::function<void()> run, bool early = false);

// Memory that cudaMalloc gave, or cudaMallocHost; both ends count as inside, since an empty array may stand there.
bool is_device_memory(const void* pointer, std::size_t bytes);
bool is_pinned_memory(const void* pointer, std::size_t bytes);

}  // namespace simt
