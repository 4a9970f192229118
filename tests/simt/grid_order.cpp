#include "simt/grid_order.h"

#include "simt/fiber.h"

namespace simt {

void GridOrder::begin(const Work& work) {
  work_ = &work;
  if constexpr (!kTsan) return;
  if (overlaps()) by_turns_ = 1 - by_turns_;
  set_ = work.branch > 0 ? 2 + (work.branch - 1) % kSetsBeside : by_turns_;
}

void GridOrder::await_all() {
  for (char& tag : ends_) acquire(&tag);
}

void GridOrder::thread_begins() {
  acquire(&work_->given);
  for (const auto& before : work_->starts_after) acquire(&before->ended);
}

void GridOrder::thread_awaits() {
  if (work_->beside != nullptr) acquire(&work_->beside->ended);
}

void GridOrder::thread_ends() {
  release(&ends_[set_]);
  release(&work_->ended);
}

GridOrder& grid_order() {
  static GridOrder& instance = *new GridOrder;  // outlives every destructor
  return instance;
}

}  // namespace simt
