// What the device was given and when it does it. A stream's operations are done in the order of the calls, and what
// order streams and events leave open the schedule chooses (simt/schedule.h), and with it how far the host is ahead:
// with fifo the device has done all when a call returns; with lifo it does nothing before the host waits for it, and
// then no more than it must; at random anything in between.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

namespace simt {

struct Work;
using WorkList = std::vector<std::shared_ptr<Work>>;

// A kernel, a copy or a library's product.
struct Work {
  std::unique_ptr<const std::function<void()>> run;  // none once it is done
  WorkList after;                                    // what must be done before it is; empty once it is done
  // For TSan: the grid that it starts early beside, which its threads await; null for most. And what must be done
  // before it starts: `after`, or what comes before that grid.
  std::shared_ptr<Work> beside;
  WorkList starts_after;
  int branch = 0;                     // of the stream: 0 unless it went on from an event of another one
  mutable char given = 0, ended = 0;  // tags (simt/fiber.h)

  bool done = false, wanted = false, looked_at = false;
  std::size_t number = 0;  // in the order of the calls
  int missing = 0;         // of `after`
  WorkList next;           // in whose `after` this is
};

// Each stands behind all that its `after` names. May do some of it, or of what was given before.
void give(const WorkList& works);
// Return when these are done, or everything is; what the host does next comes after it.
void wait_for(const WorkList& works);
void wait_for_all();
// Whether the host sees that they are done; if so, what it does next comes after them. With lifo it does not, and they
// are not, when it looks for the first time; at random, maybe.
bool seen_done(const WorkList& works);
bool are_done(const WorkList& works);

}  // namespace simt
