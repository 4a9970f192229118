#include "bench/time_call.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <vector>

#include "bench/statistics.h"

namespace ember {
namespace {

// A sample of this length does not feel the clock.
constexpr double kLongEnough = 20e-6;
constexpr std::size_t kMostSamples = 2000;

class Timer {
 public:
  Timer(Backend& backend, const std::function<void()>& call, const std::function<void()>& reset, Cache cache)
      : backend_(backend), call_(call), reset_(reset), cache_(cache) {}

  // The seconds of one call.
  double sample() {
    make_ready();
    backend_.mark();
    for (std::int64_t i = 0; i < calls_; ++i) call_();
    backend_.mark();
    const double seconds = backend_.laps().front();
    first_ = false;
    measured_ += seconds;
    return seconds / static_cast<double>(calls_);
  }

  // The seconds of all samples.
  double measured() const { return measured_; }

  // Puts several calls into a sample where one is too short.
  void lengthen(double seconds) {
    if (cache_ == Cache::cold || reset_) return;
    const double wanted = std::ceil(kLongEnough / std::max(seconds, 1e-9));
    calls_ = std::clamp(static_cast<std::int64_t>(wanted), std::int64_t{1}, backend_.most_calls());
  }

 private:
  void make_ready() {
    const bool occupied = cache_ == Cache::warm && backend_.occupy();
    if (first_ || occupied) run();  // the first call may take memory and measure algorithms
    if (reset_) reset_();
    if (cache_ == Cache::cold) backend_.flush_caches();
  }
  void run() {
    if (reset_) reset_();
    call_();
  }

  Backend& backend_;
  const std::function<void()>&call_, &reset_;
  Cache cache_;
  std::int64_t calls_ = 1;
  double measured_ = 0;
  bool first_ = true;
};

}  // namespace

double time_call(Backend& backend, const std::function<void()>& call, const std::function<void()>& reset, Cache cache,
                 Budget budget) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  const auto passed = [&start] { return std::chrono::duration<double>(Clock::now() - start).count(); };
  Timer timer(backend, call, reset, cache);
  const double first = timer.sample();
  timer.lengthen(first);
  std::vector<double> samples{first};
  if (first < kLongEnough) samples.clear();  // it is as coarse as the clock
  while (samples.empty() ||
         (timer.measured() < budget.seconds && passed() < 3 * budget.seconds && samples.size() < kMostSamples))
    samples.push_back(timer.sample());
  return median(samples);
}

}  // namespace ember
