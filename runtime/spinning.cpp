#include "runtime/spinning.h"

#include <omp.h>
#include <pthread.h>
#include <signal.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <latch>
#include <semaphore>
#include <system_error>
#include <thread>
#include <vector>

#include "runtime/program.h"

namespace ember {
namespace {

using std::chrono::nanoseconds;

constexpr std::chrono::milliseconds kBetweenLooks{250};
// Of the time, without a processor: alone on a machine it was a thousandth, beside one other process on two processors
// a third.
constexpr int kCrowdedShare = 20;

// libgomp ends the process where it cannot have a thread, so others try first.
bool can_have_threads(int count) {
  std::latch tried(1);
  std::vector<std::jthread> threads;
  bool all = true;
  try {
    for (int t = 0; t < count; ++t) threads.emplace_back([&tried] { tried.wait(); });
  } catch (const std::system_error&) {
    all = false;
  }
  tried.count_down();
  return all;
}

// libgomp counts the threads of a thread's last parallel region until that thread ends.
void make_more_threads_than_processors() {
  const int count = omp_get_num_procs() + 1;
  if (!can_have_threads(count)) return;
#pragma omp parallel num_threads(count)
  {
#pragma omp barrier
  }
}

[[noreturn]] void watch() {
  std::optional<BriefSpinning> brief;
  auto then = std::chrono::steady_clock::now();
  auto before = time_without_processor();
  for (;;) {
    std::this_thread::sleep_for(kBetweenLooks);
    const auto now = std::chrono::steady_clock::now();
    const auto without = time_without_processor();
    const bool crowded = !without || !before || (*without - *before) * kCrowdedShare > now - then;
    try {
      if (!crowded)
        brief.reset();
      else if (!brief)
        brief.emplace();
    } catch (const std::system_error&) {  // no thread for it; perhaps later
    }
    then = now;
    before = without;
  }
}

}  // namespace

void adapt_spinning(char** argv) {
  // Where threads are to be tied to processors, this one is already, and a second start would inherit its one processor
  // as all there is.
  for (const char* set : {"OMP_WAIT_POLICY", "OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY"})
    if (std::getenv(set) != nullptr) return;
  const char* spins = std::getenv("GOMP_SPINCOUNT");
  if (spins == nullptr && setenv("GOMP_SPINCOUNT", kSpinCount, 1) == 0) start_anew(argv);
  if (spins == nullptr || std::strcmp(spins, kSpinCount) != 0) return;
  sigset_t all, old;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);  // signals are for the program's own threads
  try {
    std::thread(watch).detach();
  } catch (const std::system_error&) {  // no thread for it
  }
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
}

std::optional<nanoseconds> time_without_processor() {
  std::ifstream file("/proc/self/schedstat");
  nanoseconds::rep running = 0, waiting = 0;
  if (file >> running >> waiting) return nanoseconds(waiting);
  return std::nullopt;
}

struct BriefSpinning::Owner {
  std::binary_semaphore started{0}, ended{0};
  std::thread thread{[this] {
    make_more_threads_than_processors();
    started.release();
    ended.acquire();
  }};
};

BriefSpinning::BriefSpinning() : owner_(std::make_unique<Owner>()) {
  owner_->started.acquire();
}

BriefSpinning::~BriefSpinning() {
  owner_->ended.release();
  owner_->thread.join();
}

}  // namespace ember
