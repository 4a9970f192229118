#include <omp.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "bench/backend.h"
#include "bench/machine.h"
#include "runtime/ceil_div.h"
#include "runtime/shares.h"

namespace ember {
namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;

// Four times the last level of cache, and eight times the level before it for every thread; a guess where the system
// does not tell. No more than an eighth of the memory.
std::size_t beyond_caches(int threads) {
  const auto told = [](int name) { return static_cast<std::size_t>(std::max(sysconf(name), 0L)); };
  const std::size_t own = 8 * told(_SC_LEVEL2_CACHE_SIZE) * static_cast<std::size_t>(threads);
  return std::min(std::max({64 * kMiB, 4 * told(_SC_LEVEL3_CACHE_SIZE), own}),
                  told(_SC_PHYS_PAGES) * told(_SC_PAGESIZE) / 8);
}

class CpuBackend final : public Backend {
 public:
  CpuBackend(Precision precision, int threads)
      : precision_(precision), threads_(thread_count(threads)), kernels_(make_cpu_kernels(precision, threads)) {}

  std::string name() const override {
    return precision_ == Precision::bf16 ? "cpu-bf16" : precision_ == Precision::int8 ? "cpu-int8" : "cpu";
  }
  Kernels& kernels() override { return *kernels_; }
  std::string device_name() const override { return kernels_->device_name(); }
  double frozen_width() const override { return precision_ == Precision::int8 ? 1 : 0; }

  void mark() override { marks_.push_back(Clock::now()); }
  std::vector<double> laps() override {
    std::vector<double> seconds;
    for (std::size_t i = 1; i < marks_.size(); ++i)
      seconds.push_back(std::chrono::duration<double>(marks_[i] - marks_[i - 1]).count());
    marks_.clear();
    return seconds;
  }

  // Every thread writes to a part of its own, so that each core's caches are filled with it, and the shared one too.
  void flush_caches() override {
    constexpr std::size_t kLine = 64;
    if (flush_.size() == 0) flush_ = host_buffer(beyond_caches(threads_) / 2);
    auto* bytes = static_cast<volatile unsigned char*>(flush_.data());
    const auto size = static_cast<std::int64_t>(flush_.size());
#pragma omp parallel for num_threads(threads_) schedule(static)
    for (std::int64_t i = 0; i < size; i += kLine) bytes[i] = static_cast<unsigned char>(bytes[i] + 1);
  }

  // Long enough for the clock not to matter.
  std::int64_t most_calls() const override {
    return 1 << 16;
  }

  // memcpy passes large blocks by the caches.
  void copy(void* to, const void* from, std::size_t bytes) override {
#pragma omp parallel num_threads(threads_)
    {
      const auto count = static_cast<std::size_t>(omp_get_num_threads());
      const auto part = ceil_div(bytes, count), begin = part * static_cast<std::size_t>(omp_get_thread_num());
      if (begin < bytes)
        std::memcpy(static_cast<std::byte*>(to) + begin, static_cast<const std::byte*>(from) + begin,
                    std::min(part, bytes - begin));
    }
  }
  std::size_t large_block() const override {
    return beyond_caches(threads_);
  }
  std::int64_t large_product() const override {
    return 2048;
  }

  void reset_peak_memory() override {
    reset_peak_host_memory();
  }
  std::size_t peak_memory() const override {
    return peak_host_memory();
  }

 private:
  using Clock = std::chrono::steady_clock;

  Precision precision_;
  int threads_;
  std::unique_ptr<Kernels> kernels_;
  std::vector<Clock::time_point> marks_;
  Buffer flush_;
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(Precision precision, int threads) {
  return std::make_unique<CpuBackend>(precision, threads);
}

}  // namespace ember
