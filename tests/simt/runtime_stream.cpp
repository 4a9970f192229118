// Streams, events and graphs of the emulated CUDA runtime. Everything runs at once, in the order of the calls, so a
// stream is always idle and an event that was recorded has happened. A stream that is being captured runs nothing: its
// operations are recorded, with their arguments by value, and run each time the graph is launched. A second stream
// joins the capture when it waits for an event of it, and must be waited for in turn before the capture ends. A graph
// runs its operations in any order that its streams and events allow, as the schedule has it: one that lacks an event
// has other results in other orders.
#include <algorithm>
#include <chrono>

#include "simt/grid_order.h"
#include "simt/runtime_state.h"
#include "simt/schedule.h"

using simt::result;

namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

int captures_under_way = 0;

std::vector<simt::GraphNode> nodes_of(const SimtOperations& operations) {
  std::vector<simt::GraphNode> nodes(operations.size());
  if (!simt::kTsan) return nodes;
  for (std::size_t i = 0; i < operations.size(); ++i) {
    for (const std::size_t before : operations[i].after) nodes[i].after.push_back(&nodes[before]);
    nodes[i].branch = operations[i].branch;
  }
  return nodes;
}

int branch_of(cudaStream_t stream) {
  const std::vector<cudaStream_t>& forks = stream->recording->forks;
  const auto fork = std::ranges::find(forks, stream);
  return fork == forks.end() ? 0 : 1 + static_cast<int>(fork - forks.begin());
}

void run(CUgraphExec_st& graph) {
  const SimtOperations& operations = graph.operations;
  std::vector<bool> done(operations.size());
  std::vector<std::size_t> ready;
  const auto is_done = [&](std::size_t i) { return done[i]; };
  for (std::size_t turn = 0; turn < operations.size(); ++turn) {
    ready.clear();
    for (std::size_t i = 0; i < operations.size(); ++i)
      if (!done[i] && std::ranges::all_of(operations[i].after, is_done)) ready.push_back(i);
    const std::size_t next = ready[simt::whose_turn(ready.size())];
    simt::grid_order().set_node(&graph.nodes[next]);
    operations[next].run();
    done[next] = true;
  }
  simt::grid_order().set_node(nullptr);
}

// What CUDA does not allow in a capture: waiting for the device and the like.
cudaError_t require_idle(cudaStream_t stream) {
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  if (const cudaError_t error = simt::state_of_device(); error != cudaSuccess) return error;
  return stream->recording == nullptr ? cudaSuccess : cudaErrorStreamCaptureUnsupported;
}

}  // namespace

namespace simt {

cudaError_t ready_to_allocate() {
  const cudaError_t error = state_of_device();
  return error == cudaSuccess && captures_under_way > 0 ? cudaErrorStreamCaptureUnsupported : error;
}

cudaError_t perform(cudaStream_t stream, std::function<void()> operation) {
  if (stream == nullptr) return result(cudaErrorInvalidResourceHandle);
  if (const cudaError_t error = state_of_device(); error != cudaSuccess) return result(error);
  stream->rejoined = false;
  if (stream->recording == nullptr) {
    operation();
  } else {
    SimtOperations& operations = stream->recording->operations;
    operations.push_back({std::move(operation), std::move(stream->after), branch_of(stream)});
    stream->after = {operations.size() - 1};
  }
  return result(cudaSuccess);
}

}  // namespace simt

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  if (const cudaError_t error = simt::state_of_device(); error != cudaSuccess) return result(error);
  *stream = new CUstream_st;
  return result(cudaSuccess);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  if (stream == nullptr) return result(cudaErrorInvalidResourceHandle);
  if (stream->recording != nullptr && stream->recording->origin == stream) --captures_under_way;
  delete stream;
  return result(simt::state_of_device());
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  simt::grid_order().await();
  return result(require_idle(stream));
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (event == nullptr || stream == nullptr) return result(cudaErrorInvalidResourceHandle);
  if (const cudaError_t error = simt::state_of_device(); error != cudaSuccess) return result(error);
  const auto& recording = event->recording;
  if (recording == nullptr) return result(require_idle(stream));
  if (stream->recording == nullptr) {
    stream->recording = recording;
    stream->after.clear();
    stream->rejoined = false;
    recording->forks.push_back(stream);
  }
  if (stream->recording != recording) return result(cudaErrorStreamCaptureMerge);
  stream->after.insert(stream->after.end(), event->after.begin(), event->after.end());
  // A later operation of the fork is not joined by an event that was recorded before it.
  if (stream == recording->origin) event->stream->rejoined = event->after == event->stream->after;
  return result(cudaSuccess);
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (const cudaError_t error = require_idle(stream); error != cudaSuccess) return result(error);
  stream->recording = std::make_shared<SimtRecording>();
  stream->after.clear();
  stream->recording->origin = stream;
  ++captures_under_way;
  return result(cudaSuccess);
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  if (stream == nullptr || stream->recording == nullptr) return result(cudaErrorIllegalState);
  const std::shared_ptr<SimtRecording> recording = stream->recording;
  if (recording->origin != stream) return result(cudaErrorStreamCaptureUnmatched);
  stream->recording.reset();
  --captures_under_way;
  bool joined = true;
  for (cudaStream_t fork : recording->forks) {
    joined = joined && fork->rejoined;
    fork->recording.reset();
  }
  *graph = joined ? new CUgraph_st{std::move(recording->operations)} : nullptr;
  return result(joined ? cudaSuccess : cudaErrorStreamCaptureUnjoined);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  if (stream == nullptr) return result(cudaErrorInvalidResourceHandle);
  *status = stream->recording == nullptr ? cudaStreamCaptureStatusNone : cudaStreamCaptureStatusActive;
  return result(cudaSuccess);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  if (const cudaError_t error = simt::state_of_device(); error != cudaSuccess) return result(error);
  *event = new CUevent_st;
  (*event)->timed = (flags & cudaEventDisableTiming) == 0;
  return result(cudaSuccess);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  if (event == nullptr) return result(cudaErrorInvalidResourceHandle);
  delete event;
  return result(simt::state_of_device());
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (event == nullptr || stream == nullptr) return result(cudaErrorInvalidResourceHandle);
  if (const cudaError_t error = simt::state_of_device(); error != cudaSuccess) return result(error);
  event->recording = stream->recording;
  event->stream = stream;
  event->after = stream->after;
  if (stream->recording != nullptr) return result(cudaSuccess);
  event->recorded = true;
  event->seconds = now();
  return result(cudaSuccess);
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (event == nullptr) return result(cudaErrorInvalidResourceHandle);
  simt::grid_order().await();
  // An event of a recording marks a place in a graph, not a time.
  return result(event->recording != nullptr ? cudaErrorCapturedEvent : simt::state_of_device());
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return cudaEventQuery(event);
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  if (start == nullptr || end == nullptr || !start->timed || !end->timed || !start->recorded || !end->recorded)
    return result(cudaErrorInvalidResourceHandle);
  if (start->recording != nullptr || end->recording != nullptr) return result(cudaErrorCapturedEvent);
  *milliseconds = static_cast<float>(1e3 * (end->seconds - start->seconds));
  return result(simt::state_of_device());
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  if (graph == nullptr) return result(cudaErrorInvalidValue);
  *executable = new CUgraphExec_st{graph->operations, nodes_of(graph->operations)};
  return result(cudaSuccess);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  if (executable == nullptr) return result(cudaErrorInvalidValue);
  if (const cudaError_t error = require_idle(stream); error != cudaSuccess) return result(error);
  simt::grid_order().await();
  run(*executable);
  return result(cudaSuccess);
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return result(cudaSuccess);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  simt::grid_order().await();
  delete executable;
  return result(cudaSuccess);
}
