// How fast steps are done. A GPU's host gives steps ahead and learns in lots, some time later, that they are done; what
// it sees of the time is from lot to lot. So the time of a lot is its steps' in equal parts.
#pragma once

#include <cstdint>
#include <deque>

namespace ember {

struct Speed {
  std::int64_t steps = 0, examples = 0, tokens = 0;
  double seconds = 0;
  double per_second(std::int64_t count) const { return seconds > 0 ? static_cast<double>(count) / seconds : 0; }
};

class SpeedMeter {
 public:
  // A step was given.
  void give(std::int64_t examples, std::int64_t tokens) { given_.push_back({1, examples, tokens, 0}); }
  // Time went by with steps; that of evaluations and checkpoints is not told.
  void spend(double seconds) { spent_ += seconds; }
  // So many more of the given steps are known to be done, which the next calls of finish() count.
  void arrive(std::int64_t steps);
  // Counts the next step into the window.
  void finish();
  // The steps counted since the last call of take(), which begins a new window.
  const Speed& window() const { return window_; }
  Speed take();
  // Seconds a step, of all that were given and all the time spent; 0 before the first.
  double seconds_a_step() const;

 private:
  std::deque<Speed> given_;  // not counted yet
  Speed window_, done_;
  double spent_ = 0, share_ = 0;  // since the last lot; of a step of that lot
};

}  // namespace ember
