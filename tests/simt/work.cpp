#include "simt/work.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "simt/core.h"
#include "simt/grid_order.h"
#include "simt/schedule.h"

namespace simt {
namespace {

struct Queue {
  WorkList ready;  // what nothing is missing for, in the order of the calls
  std::size_t given = 0, done = 0;
};

Queue& queue() {
  static Queue& instance = *new Queue;  // outlives every destructor
  return instance;
}

void add_ready(const std::shared_ptr<Work>& work) {
  const auto earlier = [](const auto& a, const auto& b) { return a->number < b->number; };
  WorkList& ready = queue().ready;
  ready.insert(std::ranges::upper_bound(ready, work, earlier), work);
}

// By value, since it leaves the queue.
void run(const std::shared_ptr<Work> work) {
  std::erase(queue().ready, work);
  grid_order().begin(*work);
  (*work->run)();
  forget_arguments(*work);
  work->done = true;
  ++queue().done;
  work->after.clear();
  work->starts_after.clear();
  work->beside.reset();
  for (const auto& next : std::exchange(work->next, {}))
    if (--next->missing == 0) add_ready(next);
}

void run_one(const WorkList& ready) {
  run(ready[whose_turn(ready.size())]);
}

// Does these and what comes before them.
void run_all(WorkList works) {
  std::size_t wanted = 0;
  while (!works.empty()) {
    const std::shared_ptr<Work> work = works.back();
    works.pop_back();
    if (work->done || std::exchange(work->wanted, true)) continue;
    ++wanted;
    works.insert(works.end(), work->after.begin(), work->after.end());
  }
  for (; wanted > 0; --wanted) {
    WorkList ready;
    std::ranges::copy_if(queue().ready, std::back_inserter(ready), [](const auto& work) { return work->wanted; });
    run_one(ready);
  }
}

void come_after(const WorkList& works) {
  for (const auto& work : works) acquire(&work->ended);
}

}  // namespace

void give(const WorkList& works) {
  Queue& q = queue();
  for (const auto& work : works) {
    work->number = q.given++;
    release(&work->given);
    for (const auto& before : work->after)
      if (!before->done) {
        before->next.push_back(work);
        ++work->missing;
      }
    if (work->missing == 0) add_ready(work);
  }
  const std::size_t stay = whose_turn(q.given - q.done + 1);
  while (q.given - q.done > stay) run_one(q.ready);
}

void wait_for(const WorkList& works) {
  run_all(works);
  come_after(works);
}

void wait_for_all() {
  Queue& q = queue();
  while (q.given > q.done) run_one(q.ready);
  grid_order().await_all();
}

bool seen_done(const WorkList& works) {
  if (!are_done(works)) {
    bool again = true;
    for (const auto& work : works) again = std::exchange(work->looked_at, true) && again;
    if (!again && whose_turn(2) != 0) return false;
    run_all(works);
  }
  come_after(works);
  return true;
}

bool are_done(const WorkList& works) {
  return std::ranges::all_of(works, [](const auto& work) { return work->done; });
}

}  // namespace simt
