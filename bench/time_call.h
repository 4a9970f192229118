// Timing one call.
#pragma once

#include <chrono>
#include <functional>

#include "bench/backend.h"

namespace ember {

// The seconds that `call` takes by the host's clock.
template <typename Call>
double seconds_of(const Call& call) {
  const auto start = std::chrono::steady_clock::now();
  call();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

enum class Cache {
  warm,  // the same call ran just before
  cold,  // the caches were emptied before each call
};

// A repetition takes samples until this much time has been measured, or three times that has passed, or there are
// 2,000; one at least.
struct Budget {
  double seconds = 0.01;
};

// The seconds that `call` takes on the backend: the median of a repetition's samples. A sample is one call, or warm and
// without a `reset` several short ones between two marks. `reset` (may be null) runs before each call, not measured.
double time_call(Backend& backend, const std::function<void()>& call, const std::function<void()>& reset, Cache cache,
                 Budget budget);

}  // namespace ember
