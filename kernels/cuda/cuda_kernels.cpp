#include "kernels/cuda/cuda_kernels.h"

#include <fmt/format.h>

#include <algorithm>

#include "runtime/cuda/check.h"
#include "runtime/cuda/event.h"
#include "runtime/cuda/graph.h"
#include "runtime/cuda/memory.h"
#include "runtime/cuda/nvtx.h"

namespace ember {
namespace {

class DeviceReadback final : public Readback {
 public:
  DeviceReadback(const Stream& stream, std::size_t bytes) : stream_(stream), memory_(pinned_buffer(bytes)) {}
  void start(const void* from_device) override {
    check_cuda(cudaMemcpyAsync(memory_.data(), from_device, memory_.size(), cudaMemcpyDeviceToHost, stream_),
               "reading back");
    copied_.record(stream_);
  }
  bool ready() const override { return copied_.happened(); }
  const void* wait() override {
    const ProfiledRange range("waiting for a copy");
    if (!ready()) copied_.synchronize();
    return memory_.data();
  }

 private:
  const Stream& stream_;
  Buffer memory_;
  Event copied_;
};

class GraphOfWork final : public RecordedWork {
 public:
  // `settled`: CudaKernels', which what a recording launches does not tell.
  GraphOfWork(const Stream& stream, const std::function<void()>& work, bool& settled)
      : stream_(stream), settled_(settled), graph_(stream, work) {}
  void run() override {
    const ProfiledRange range("recorded work");
    graph_.launch(stream_);
    settled_ = false;
  }

 private:
  const Stream& stream_;
  bool& settled_;
  Graph graph_;
};

}  // namespace

CudaKernels::CudaKernels(std::string_view device) : device_(use_device(device)) {
  allow_early_starts(device_, code_can_await());
}

CudaKernels::~CudaKernels() = default;

std::string CudaKernels::device_name() const {
  return fmt::format("{} (sm_{}{})", device_.name, device_.major, device_.minor);
}

Buffer CudaKernels::allocate(std::size_t bytes) {
  Buffer buffer = device_buffer(bytes);
  if (bytes > 0) check_cuda(cudaMemsetAsync(buffer.data(), 0, bytes, stream()), "cudaMemsetAsync");
  return buffer;
}

void CudaKernels::upload(void* to_device, const void* from_host, std::size_t bytes) {
  if (bytes == 0) return;
  const ProfiledRange range("upload");
  check_cuda(cudaMemcpyAsync(to_device, from_host, bytes, cudaMemcpyHostToDevice, stream()), "upload");
  stream_.synchronize();  // the caller may reuse from_host at once, page-locked or not
}

void CudaKernels::download(void* to_host, const void* from_device, std::size_t bytes) {
  if (bytes == 0) return;
  const ProfiledRange range("download");
  check_cuda(cudaMemcpyAsync(to_host, from_device, bytes, cudaMemcpyDeviceToHost, stream()), "download");
  stream_.synchronize();
}

std::unique_ptr<Readback> CudaKernels::make_readback(std::size_t bytes) {
  return std::make_unique<DeviceReadback>(stream_, bytes);
}

std::unique_ptr<RecordedWork> CudaKernels::record(const std::function<void()>& work) {
  const ProfiledRange range("recording");
  finish_updates();  // a recording cannot await what has begun before it
  settled_ = false;
  auto recorded = std::make_unique<GraphOfWork>(stream_, work, settled_);
  settled_ = false;
  return recorded;
}

void* CudaKernels::scratch(std::size_t bytes) {
  const std::size_t now = scratch_.empty() ? 0 : scratch_.back().size();
  if (now < bytes) scratch_.push_back(device_buffer(std::max(bytes, 2 * now)));
  if (scratch_.empty()) return nullptr;
  poison(scratch_.back().data(), scratch_.back().size(), stream());
  return scratch_.back().data();
}

unsigned* CudaKernels::arrivals(std::int64_t count) {
  const std::size_t bytes = static_cast<std::size_t>(std::max<std::int64_t>(count, 1)) * sizeof(unsigned);
  const std::size_t now = arrivals_.empty() ? 0 : arrivals_.back().size();
  if (now < bytes) arrivals_.push_back(allocate(std::max(bytes, 2 * now)));
  return static_cast<unsigned*>(arrivals_.back().data());
}

}  // namespace ember
