#include "simt/grid_order.h"

#include "simt/fiber.h"

namespace simt {

void GridOrder::begin(const void* stream, bool early) {
  if constexpr (!kTsan) return;
  if (in_graph()) {
    overlaps_ = early && node_->after.size() == 1;
    first_ = overlaps_ ? node_->after.front()->after : node_->after;
    awaited_ = overlaps_ ? &node_->after.front()->ended : nullptr;
  } else {
    overlaps_ = early && stream == stream_;
    if (!overlaps_) await();
    first_ = {};
    awaited_ = overlaps_ ? &sets_[by_turns_].ends : nullptr;
  }
  if (overlaps_) by_turns_ = 1 - by_turns_;
  const bool beside = in_graph() && node_->branch > 0;
  set_ = beside ? 2 + (node_->branch - 1) % kSetsBeside : by_turns_;
}

void GridOrder::start() {
  release(&sets_[set_].starts);
}

void GridOrder::end(const void* stream) {
  if constexpr (!kTsan) return;
  if (in_graph()) return;
  // The grid before has been awaited; this one's end is the next one's to await.
  if (overlaps_) acquire(awaited_);
  stream_ = stream;
}

void GridOrder::await() {
  stream_ = nullptr;
  for (Tags& tags : sets_) acquire(&tags.ends);
}

void GridOrder::thread_begins() {
  acquire(&sets_[set_].starts);
  for (GraphNode* node : first_) acquire(&node->ended);
}

void GridOrder::thread_awaits() {
  if (awaited_ != nullptr) acquire(awaited_);
}

void GridOrder::thread_ends() {
  release(&sets_[set_].ends);
  if (in_graph()) release(&node_->ended);
}

GridOrder& grid_order() {
  static GridOrder& instance = *new GridOrder;  // outlives every destructor
  return instance;
}

}  // namespace simt
