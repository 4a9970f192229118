#include "runtime/spinning.h"

#include <omp.h>
#include <pthread.h>
#include <signal.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <semaphore>
#include <thread>

#include "runtime/program.h"

namespace ember {
namespace {

using std::chrono::nanoseconds;

constexpr std::chrono::milliseconds kBetweenLooks{250};
// Of the time, without a processor: alone on a machine it was a thousandth, beside one other process on two processors
// a third.
constexpr int kCrowdedShare = 20;

// libgomp counts the threads of a thread's last parallel region until that thread ends.
void make_more_threads_than_processors() {
  const int count = omp_get_num_procs() + 1;
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
    if (!crowded)
      brief.reset();
    else if (!brief)
      brief.emplace();
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
  std::thread(watch).detach();
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
