#include "runtime/cuda/stream.h"

#include "runtime/cuda/check.h"

namespace ember {

Stream::Stream() {
  cudaStream_t stream = nullptr;
  check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "making a stream");
  handle_.reset(stream);
}

void Stream::synchronize() const {
  count_synchronisation();
  check_cuda(cudaStreamSynchronize(get()), "waiting for the device");
}

void Stream::Destroy::operator()(cudaStream_t stream) const noexcept {
  report_cuda(cudaStreamDestroy(stream), "releasing a stream");
}

}  // namespace ember
