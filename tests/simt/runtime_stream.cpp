// Streams, events and graphs of the emulated CUDA runtime. What a stream is given is done when the schedule has it done
// (simt/work.h). A stream that is being captured does nothing: its operations are recorded, with their arguments by
// value, and given each time the graph is launched. A second stream joins the capture when it waits for an event of it,
// and must be waited for in turn before the capture ends. A call that CUDA does not allow meanwhile spoils the capture,
// so that who overlooks the error has no graph.
#include <algorithm>
#include <chrono>
#include <utility>

#include "simt/grid.h"
#include "simt/runtime_state.h"

using simt::result;

namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

using Recordings = std::vector<std::shared_ptr<SimtRecording>>;
// That have not ended.
Recordings& under_way() {
  static Recordings& instance = *new Recordings;  // outlives every destructor
  return instance;
}

void append(simt::WorkList& to, const simt::WorkList& from) {
  to.insert(to.end(), from.begin(), from.end());
}

std::unique_ptr<const std::function<void()>> function(std::function<void()> of) {
  return std::make_unique<const std::function<void()>>(std::move(of));
}

// A stream that goes on from an event of another one is beside it, until that in turn goes on from its. By number, so
// that two that were made together have different sets of threads (simt/grid_order.h).
void branch_off(CUstream_st& stream, const CUevent_st& event) {
  if (event.stream != &stream && event.branch == 0 && stream.branch == 0) stream.branch = stream.number;
}

// What a launch of the graph in a stream does, behind what the stream was given before.
simt::WorkList copies_of(const simt::WorkList& operations, const simt::WorkList& before) {
  simt::WorkList copies;
  const auto from_here = [&](const simt::WorkList& recorded) {
    simt::WorkList works;
    for (const auto& operation : recorded) works.push_back(copies[operation->number]);
    return recorded.empty() ? before : works;
  };
  for (const auto& operation : operations) {
    const auto copy = std::make_shared<simt::Work>();
    copy->run = function([operation] { (*operation->run)(); });
    copy->after = from_here(operation->after);
    copy->starts_after = from_here(operation->starts_after);
    if (operation->beside != nullptr) copy->beside = copies[operation->beside->number];
    copy->branch = operation->branch;
    copies.push_back(copy);
  }
  return copies;
}

void enter_capture(CUstream_st& stream, std::shared_ptr<SimtRecording> recording) {
  stream.recording = std::move(recording);
  stream.recorded.clear();
  stream.before_last.reset();
  stream.rejoined = false;
}

void end(const std::shared_ptr<SimtRecording>& recording) {
  recording->ended = true;
  std::erase(under_way(), recording);
}

void leave_capture(CUstream_st& stream) {
  stream.recording.reset();
  stream.before_last.reset();
}

// That the stream itself is not being captured.
cudaError_t require_idle(cudaStream_t stream) {
  if (stream == nullptr) return cudaErrorInvalidResourceHandle;
  if (const cudaError_t error = simt::state_of_device(); error != cudaSuccess) return error;
  return stream->recording == nullptr ? cudaSuccess : cudaErrorStreamCaptureUnsupported;
}

cudaError_t require_awaitable(cudaEvent_t event) {
  if (event == nullptr) return cudaErrorInvalidResourceHandle;
  // An event of a recording marks a place in a graph, not a time.
  return event->recording != nullptr ? cudaErrorCapturedEvent : simt::outside_captures();
}

}  // namespace

namespace simt {

cudaError_t outside_captures() {
  if (const cudaError_t error = state_of_device(); error != cudaSuccess) return error;
  for (const auto& recording : under_way()) recording->spoilt = true;
  return under_way().empty() ? cudaSuccess : cudaErrorStreamCaptureUnsupported;
}

cudaError_t perform(cudaStream_t stream, std::function<void()> run, bool early) {
  if (stream == nullptr) return result(cudaErrorInvalidResourceHandle);
  if (const cudaError_t error = state_of_device(); error != cudaSuccess) return result(error);
  if (stream->recording != nullptr && stream->recording->spoilt) return result(cudaErrorStreamCaptureInvalidated);
  WorkList& after = stream->last();
  const auto work = std::make_shared<Work>();
  work->run = function(std::move(run));
  work->after = after;
  work->starts_after = after;
  work->branch = stream->branch;
  if (early && stream->before_last.has_value() && after.size() == 1) {
    work->beside = after.front();
    work->starts_after = *stream->before_last;
  }
  stream->before_last = std::exchange(after, {work});
  stream->rejoined = false;
  if (stream->recording != nullptr) {
    work->number = stream->recording->operations.size();
    stream->recording->operations.push_back(work);
  } else {
    give({work});
  }
  return result(cudaSuccess);
}

}  // namespace simt

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  if (const cudaError_t error = simt::state_of_device(); error != cudaSuccess) return result(error);
  static int made = 0;
  *stream = new CUstream_st;
  (*stream)->number = ++made;
  return result(cudaSuccess);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  if (stream == nullptr) return result(cudaErrorInvalidResourceHandle);
  if (stream->recording != nullptr && stream->recording->origin == stream) end(stream->recording);
  simt::wait_for(stream->after);  // a device does not, but no one else would
  delete stream;
  return result(simt::state_of_device());
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (stream == nullptr) return result(cudaErrorInvalidResourceHandle);
  if (const cudaError_t error = simt::outside_captures(); error != cudaSuccess) return result(error);
  simt::wait_for(stream->after);
  return result(cudaSuccess);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (event == nullptr || stream == nullptr) return result(cudaErrorInvalidResourceHandle);
  if (const cudaError_t error = simt::state_of_device(); error != cudaSuccess) return result(error);
  const std::shared_ptr<SimtRecording>& recording = event->recording;
  if (recording != nullptr && recording->ended) return result(cudaErrorCapturedEvent);
  if (recording == nullptr && stream->recording != nullptr) {
    stream->recording->spoilt = true;
    return result(cudaErrorStreamCaptureIsolation);
  }
  if (recording != nullptr && stream->recording == nullptr) {
    enter_capture(*stream, recording);
    recording->forks.push_back(stream);
  } else if (stream->recording != recording) {
    return result(cudaErrorStreamCaptureMerge);
  }
  branch_off(*stream, *event);
  append(stream->last(), event->after);
  // A later operation of the fork is not joined by an event that was recorded before it.
  if (recording != nullptr && stream == recording->origin)
    event->stream->rejoined = event->after == event->stream->recorded;
  return result(cudaSuccess);
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (const cudaError_t error = require_idle(stream); error != cudaSuccess) return result(error);
  enter_capture(*stream, std::make_shared<SimtRecording>());
  stream->recording->origin = stream;
  under_way().push_back(stream->recording);
  return result(cudaSuccess);
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  if (stream == nullptr || stream->recording == nullptr) return result(cudaErrorIllegalState);
  const std::shared_ptr<SimtRecording> recording = stream->recording;
  if (recording->origin != stream) return result(cudaErrorStreamCaptureUnmatched);
  leave_capture(*stream);
  end(recording);
  bool joined = true;
  for (cudaStream_t fork : recording->forks) {
    joined = joined && fork->rejoined;
    leave_capture(*fork);
  }
  *graph = joined && !recording->spoilt ? new CUgraph_st{recording->operations, stream->recorded} : nullptr;
  if (recording->spoilt) return result(cudaErrorStreamCaptureInvalidated);
  return result(joined ? cudaSuccess : cudaErrorStreamCaptureUnjoined);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  if (stream == nullptr) return result(cudaErrorInvalidResourceHandle);
  *status = stream->recording == nullptr ? cudaStreamCaptureStatusNone
            : stream->recording->spoilt  ? cudaStreamCaptureStatusInvalidated
                                         : cudaStreamCaptureStatusActive;
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
  event->branch = stream->branch;
  cudaError_t error = cudaSuccess;
  if (event->timed && stream->recording == nullptr) {
    const std::function<void()> look = [seconds = event->seconds = std::make_shared<double>()] { *seconds = now(); };
    error = simt::perform(stream, [look] { simt::run_library(look); });
  }
  event->after = stream->last();
  return result(error);
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (const cudaError_t error = require_awaitable(event); error != cudaSuccess) return result(error);
  return simt::seen_done(event->after) ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (const cudaError_t error = require_awaitable(event); error != cudaSuccess) return result(error);
  simt::wait_for(event->after);
  return result(cudaSuccess);
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  if (start == nullptr || end == nullptr || start->seconds == nullptr || end->seconds == nullptr)
    return result(cudaErrorInvalidResourceHandle);
  if (start->recording != nullptr || end->recording != nullptr) return result(cudaErrorCapturedEvent);
  if (!simt::are_done(start->after) || !simt::are_done(end->after)) return cudaErrorNotReady;
  *milliseconds = static_cast<float>(1e3 * (*end->seconds - *start->seconds));
  return result(simt::state_of_device());
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  if (graph == nullptr) return result(cudaErrorInvalidValue);
  *executable = new CUgraphExec_st{*graph};
  return result(cudaSuccess);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  if (executable == nullptr) return result(cudaErrorInvalidValue);
  if (const cudaError_t error = require_idle(stream); error != cudaSuccess) return result(error);
  const simt::WorkList copies = copies_of(executable->operations, stream->after);
  if (!copies.empty()) stream->after.clear();
  for (const auto& last : executable->last) stream->after.push_back(copies[last->number]);
  stream->before_last.reset();
  simt::give(copies);
  return result(cudaSuccess);
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return result(cudaSuccess);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  simt::wait_for_all();  // a device keeps what it needs
  delete executable;
  return result(cudaSuccess);
}
