#include "runtime/spinning.h"

#include <gtest/gtest.h>
#include <omp.h>
#include <sched.h>

#include <atomic>
#include <filesystem>
#include <thread>

namespace ember {
namespace {

using std::chrono::seconds;
using std::chrono::steady_clock;

constexpr seconds kPatience{60};

std::ptrdiff_t threads() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/task"), {});
}

TEST(BriefSpinning, HasMoreThreadsThanProcessorsAsLongAsItLives) {
  const std::ptrdiff_t before = threads();
  {
    const BriefSpinning brief;
    EXPECT_EQ(threads(), before + omp_get_num_procs() + 1);
  }
  // libgomp does not wait for the threads that it ends.
  for (const auto start = steady_clock::now(); threads() != before && steady_clock::now() - start < kPatience;)
    std::this_thread::yield();
  EXPECT_EQ(threads(), before);
}

TEST(TimeWithoutProcessor, GrowsWhereAnotherThreadWantsTheOnlyProcessor) {
  const auto before = time_without_processor();
  if (!before) GTEST_SKIP() << "this system does not say how long a thread waits for a processor";
  cpu_set_t all, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof all, &all), 0);
  CPU_ZERO(&one);
  CPU_SET(sched_getcpu(), &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  std::atomic<bool> done = false;
  std::thread other([&done] {
    while (!done) continue;
  });
  const auto start = steady_clock::now();
  auto now = before;
  while (*now - *before < std::chrono::milliseconds(20) && steady_clock::now() - start < kPatience)
    now = time_without_processor();
  done = true;
  other.join();
  EXPECT_GE(*now - *before, std::chrono::milliseconds(20));
  EXPECT_EQ(sched_setaffinity(0, sizeof all, &all), 0);
}

}  // namespace
}  // namespace ember
