#include "runtime/cuda/event.h"

#include "runtime/cuda/check.h"

namespace ember {

Event::Event(Kind kind) {
  cudaEvent_t event = nullptr;
  const unsigned flags = kind == Kind::timing ? cudaEventDefault : cudaEventDisableTiming;
  check_cuda(cudaEventCreateWithFlags(&event, flags), "making an event");
  handle_.reset(event);
}

void Event::record(const Stream& stream) const {
  check_cuda(cudaEventRecord(get(), stream), "recording an event");
}

bool Event::happened() const {
  const cudaError_t status = cudaEventQuery(get());
  if (status == cudaErrorNotReady) return false;
  check_cuda(status, "looking at an event");
  return true;
}

void Event::synchronize() const {
  count_synchronisation();
  check_cuda(cudaEventSynchronize(get()), "waiting for an event");
}

void Event::block(const Stream& stream) const {
  check_cuda(cudaStreamWaitEvent(stream, get(), 0), "making a stream wait for an event");
}

float Event::milliseconds(const Event& start, const Event& end) {
  float elapsed = 0;
  check_cuda(cudaEventElapsedTime(&elapsed, start.get(), end.get()), "timing");
  return elapsed;
}

void Event::Destroy::operator()(cudaEvent_t event) const noexcept {
  report_cuda(cudaEventDestroy(event), "releasing an event");
}

}  // namespace ember
