// Loops over tasks by a team of threads. One thread is no team of OpenMP's: at every barrier libgomp makes a system
// call to wake who waits there, also where nobody can (docs/performance_cpu_inference.md).
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>

namespace ember {

// As many of `threads` as have work: at most one per task, and only one where opening a parallel region would cost more
// than it saves.
inline int useful_threads(int threads, std::int64_t tasks, std::int64_t elements) {
  constexpr std::int64_t kWorthwhile = 16384;
  return elements < kWorthwhile ? 1 : static_cast<int>(std::min<std::int64_t>(threads, tasks));
}

// Made by in_team. All its threads call its loops, in the same order; who has done its tasks goes on.
class Team {
 public:
  explicit Team(bool alone) : alone_(alone) {}

  int thread() const { return alone_ ? 0 : omp_get_thread_num(); }

  // task(i) for i in [0, tasks), in equal shares.
  template <typename Task>
  void share(std::int64_t tasks, const Task& task) const {
    if (alone_) return all(tasks, task);
#pragma omp for schedule(static) nowait
    for (std::int64_t i = 0; i < tasks; ++i) task(i);
  }

  // The same of tasks that take unequally long, `chunk` at a time to whoever is free.
  template <typename Task>
  void deal(std::int64_t tasks, std::int64_t chunk, const Task& task) const {
    if (alone_) return all(tasks, task);
#pragma omp for schedule(dynamic, chunk) nowait
    for (std::int64_t i = 0; i < tasks; ++i) task(i);
  }

  // Until all have done all loops so far.
  void wait() const {
    if (alone_) return;
#pragma omp barrier
  }

 private:
  template <typename Task>
  static void all(std::int64_t tasks, const Task& task) {
    for (std::int64_t i = 0; i < tasks; ++i) task(i);
  }

  bool alone_;
};

// body(team) on each of `threads` threads; waits for all of them.
template <typename Body>
void in_team(int threads, const Body& body) {
  if (threads <= 1) return body(Team(true));
#pragma omp parallel num_threads(threads)
  body(Team(false));
}

// task(i) for i in [0, tasks), on `threads` threads.
template <typename Task>
void parallel_for(std::int64_t tasks, int threads, const Task& task) {
  in_team(threads, [&](const Team& team) { team.share(tasks, task); });
}

}  // namespace ember
