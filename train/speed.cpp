#include "train/speed.h"

#include <stdexcept>
#include <utility>

namespace ember {

void SpeedMeter::arrive(std::int64_t steps) {
  if (steps == 0) return;
  share_ = spent_ / static_cast<double>(steps);
  spent_ = 0;
}

void SpeedMeter::finish() {
  if (given_.empty()) throw std::logic_error("a step was done that was not given");
  const Speed step = given_.front();
  given_.pop_front();
  for (Speed* sum : {&window_, &done_}) {
    sum->steps += step.steps;
    sum->examples += step.examples;
    sum->tokens += step.tokens;
    sum->seconds += share_;
  }
}

Speed SpeedMeter::take() {
  return std::exchange(window_, {});
}

double SpeedMeter::seconds_a_step() const {
  const auto steps = static_cast<double>(done_.steps) + static_cast<double>(given_.size());
  return steps > 0 ? (done_.seconds + spent_) / steps : 0;
}

}  // namespace ember
