// What TSan is told of the order of grids: that one comes after another only as CUDA promises it. A grid that starts
// early comes after the one before it where its threads await that one; in a graph one comes after those that its
// streams and events put before it; else each comes after all before it. Such edges alone do not help, as a thread of
// the emulator comes after all that it has run before: so grids that overlap have different ones, a set each.
#pragma once

#include <span>
#include <vector>

namespace simt {

#ifdef EMBER_SIMT_TSAN
inline constexpr bool kTsan = true;
#else
inline constexpr bool kTsan = false;
#endif
// Two by turns for a stream, and some for those beside it in a graph.
inline constexpr int kSetsBeside = 2, kSets = kTsan ? 2 + kSetsBeside : 1;

// An operation of a graph; blank without TSan.
struct GraphNode {
  std::vector<GraphNode*> after;  // the one before it in its stream, and those that events stand for
  int branch = 0;                 // 0 in the stream whose capture it was
  char ended = 0;                 // a tag (simt/fiber.h)
};

class GridOrder {
 public:
  // For the launching thread. What it runs until the next call is this node; null: no graph's.
  void set_node(GraphNode* node) { node_ = node; }
  bool in_graph() const { return node_ != nullptr; }
  // Before it prepares a grid in `stream`, before that runs, and after that.
  void begin(const void* stream, bool early);
  void start();
  void end(const void* stream);
  // What it does itself from here on comes after all grids so far.
  void await();

  // The set that runs the grid that has begun, and whether that starts before the one before it has ended.
  int set() const { return set_; }
  bool overlaps() const { return overlaps_; }

  // For each of the grid's threads: first of all, in await_previous_grid(), last of all.
  void thread_begins();
  void thread_awaits();
  void thread_ends();

 private:
  struct Tags {
    char starts, ends;
  };
  Tags sets_[kSets]{};
  GraphNode* node_ = nullptr;
  const void* stream_ = nullptr;  // of the grid that ran last, if nothing else did since
  int set_ = 0, by_turns_ = 0;
  bool overlaps_ = false;
  std::span<GraphNode* const> first_;  // what the grid comes after from its start on
  char* awaited_ = nullptr;
};

GridOrder& grid_order();

}  // namespace simt
