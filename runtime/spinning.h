// How the threads of a program that computes on several of them wait for one another.
#pragma once

#include <chrono>
#include <memory>
#include <optional>

namespace ember {

// libgomp's threads wait by spinning, then they sleep. To wake one takes as long as thousands of spins, and a step has
// hundreds of waits; but where other processes want the processors too, a thread that spins holds up the very one that
// it waits for (docs/performance_cpu_training.md). So they spin for half a millisecond while this process has the
// processors to itself and for a hundredth of that while it is crowded, which a thread of its own looks at every
// quarter of a second. To be called first in main: libgomp reads GOMP_SPINCOUNT before, so the program starts itself
// once more with it. Does nothing where it cannot, or where the environment says already how threads wait or which
// processors they are tied to.
void adapt_spinning(char** argv);

// What libgomp is told: so many spins, and by itself 100 where it has more threads than processors. (GNU libgomp
// manual, "GOMP_SPINCOUNT".)
inline constexpr const char* kSpinCount = "10000";

// How long the process' first thread has been ready to run and without a processor, since its start; nothing where the
// system does not say. (Linux, Documentation/scheduler/sched-stats.rst: the second number of /proc/<pid>/schedstat.)
std::optional<std::chrono::nanoseconds> time_without_processor();

// As long as it lives, the process has more OpenMP threads than processors, all but as many idle, so that libgomp's
// waiting threads take the brief count of spins; or has not, where it may not have so many. std::system_error where it
// may not have one.
class BriefSpinning {
 public:
  BriefSpinning();
  ~BriefSpinning();

 private:
  struct Owner;
  std::unique_ptr<Owner> owner_;
};

}  // namespace ember
