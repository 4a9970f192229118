#include <cuda_runtime_api.h>

#include <algorithm>

#include "bench/backend.h"
#include "kernels/cuda/cuda_kernels.h"
#include "runtime/cuda/check.h"
#include "runtime/cuda/device.h"
#include "runtime/cuda/event.h"
#include "runtime/cuda/memory.h"

namespace ember {
namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;

class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(const std::string& device) : l2_cache_(use_device(device).l2_cache), kernels_(device) {
    flush_ = device_buffer(beyond_caches());
    taken_before_ = taken();
  }

  std::string name() const override { return "cuda"; }
  Kernels& kernels() override { return kernels_; }
  std::string device_name() const override { return kernels_.device_name(); }

  void mark() override {
    if (marks_ == events_.size()) events_.emplace_back(Event::Kind::timing);
    events_[marks_++].record(kernels_.stream());
  }
  std::vector<double> laps() override {
    std::vector<double> seconds;
    if (marks_ > 0) events_[marks_ - 1].synchronize();
    for (std::size_t i = 1; i < marks_; ++i)
      seconds.push_back(static_cast<double>(Event::milliseconds(events_[i - 1], events_[i])) * 1e-3);
    marks_ = 0;
    return seconds;
  }

  void flush_caches() override {
    check_cuda(cudaMemsetAsync(flush_.data(), 0, flush_.size(), kernels_.stream()), "emptying the caches");
  }
  // The same: at 3 TB/s it takes a tenth of a millisecond, in which the host launches a dozen kernels.
  bool occupy() override {
    flush_caches();
    return true;
  }
  std::int64_t most_calls() const override { return 8; }

  void copy(void* to, const void* from, std::size_t bytes) override {
    check_cuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, kernels_.stream()), "copying");
  }
  std::size_t large_block() const override { return beyond_caches(); }
  std::int64_t large_product() const override { return 8192; }

  std::optional<std::int64_t> launches() const override { return ember::launches(); }
  // Ember gives nothing back to the device in the course of its work, so the end is the peak.
  void reset_peak_memory() override {}
  std::size_t peak_memory() const override { return std::max(taken(), taken_before_) - taken_before_; }

 private:
  std::size_t beyond_caches() const { return std::max(64 * kMiB, 4 * l2_cache_); }
  static std::size_t taken() {
    std::size_t free = 0, total = 0;
    check_cuda(cudaMemGetInfo(&free, &total), "asking for the free memory");
    return total - free;
  }

  std::size_t l2_cache_;
  CudaKernels kernels_;
  std::vector<Event> events_;
  std::size_t marks_ = 0;  // of the events, recorded since the last laps()
  Buffer flush_;
  std::size_t taken_before_;  // by all but what is measured
};

}  // namespace

std::unique_ptr<Backend> make_cuda_backend(const std::string& device) {
  return std::make_unique<CudaBackend>(device);
}

}  // namespace ember
