#include "runtime/cuda/event.h"

#include <mutex>
#include <set>

#include "runtime/cuda/check.h"

namespace ember {
namespace {

std::mutex waiting_lock;
std::set<cudaStream_t> waiting;  // streams told to wait for an event since the last launch in them

}  // namespace

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
  const std::lock_guard lock(waiting_lock);
  waiting.insert(stream);
}

bool take_wait(cudaStream_t stream) {
  const std::lock_guard lock(waiting_lock);
  return waiting.erase(stream) > 0;
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
