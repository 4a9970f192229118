#include "runtime/shares.h"

#include <omp.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <system_error>
#include <thread>
#include <vector>

#include "runtime/cpu_quota.h"
#include "runtime/error.h"

namespace ember {

void check_threads(int threads) {
  check(threads >= 0 && threads <= kMostThreads, "--threads {}: must be a whole number from 0 to {}", threads,
        kMostThreads);
}

int thread_count(int threads) {
  if (threads > 0) return threads;
  const int all = std::min(omp_get_max_threads(), omp_get_thread_limit());
  check(all > 0 && all <= kMostThreads, "OMP_NUM_THREADS: asks for {} threads, at most {} were expected", all,
        kMostThreads);
  static const int quota = cpu_quota();
  return std::getenv("OMP_NUM_THREADS") == nullptr ? std::min(all, quota) : all;
}

std::size_t count_shares(int threads, std::size_t items, std::size_t least) {
  return std::min(static_cast<std::size_t>(thread_count(threads)), std::max<std::size_t>(items / least, 1));
}

void in_shares(std::size_t count, std::size_t items,
               const std::function<void(std::size_t share, std::size_t begin, std::size_t end)>& work) {
  std::vector<std::exception_ptr> errors(count);
  const auto attempt = [&](std::size_t share) {
    try {
      work(share, items * share / count, items * (share + 1) / count);
    } catch (...) {
      errors[share] = std::current_exception();
    }
  };
  {
    std::vector<std::jthread> running;
    std::size_t started = 1;
    try {
      for (; started < count; ++started) running.emplace_back(attempt, started);
    } catch (const std::system_error&) {  // no thread for it
    }
    attempt(0);
    for (std::size_t share = started; share < count; ++share) attempt(share);
  }
  for (const std::exception_ptr& error : errors)
    if (error) std::rethrow_exception(error);
}

}  // namespace ember
