// Inside the emulator's core: the threads of the running block, who of them may go on, and the reports. The core is
// compiled without TSan, so that its own memory takes no part in the search for races; in a thread's turn it must not
// call what TSan intercepts (memcpy and the like), which would count as accesses of that thread.
#pragma once

#include <array>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "simt/block.h"
#include "simt/fiber.h"
#include "simt/grid_order.h"

namespace simt {

struct Exchange;

// The blocks of a grid run one after another, by the threads of each pool in turn. Under TSan there are two: a block
// then is not ordered after the one before it, as on a device, and a race between the two is seen. Larger blocks have
// one pool, since every barrier takes TSan time for each thread that there has ever been, and so have the sets of
// threads (simt/grid_order.h) but the first. Elsewhere one will do.
inline constexpr int kMostThreadsOfTwoPools = 512;
inline constexpr int kPoolsOfFirstSet = kTsan ? 2 : 1, kPools = kPoolsOfFirstSet + kSets - 1;

struct Thread {
  explicit Thread(void (*entry)()) : fiber(entry) {}

  Fiber fiber;
  uint3 index{};
  int number = 0;  // in the block
  int lane = 0;
  int warp = 0;
  bool ended = true;
  bool awaited = false;            // the grid before this one
  const char* waits_in = nullptr;  // null while it runs or may run
  unsigned mask = 0;               // of the collective it waits in
  const void* barrier = nullptr;   // that it waits in
  Place place;
  Exchange* held = nullptr;  // the last collective, whose values it may still read
  std::vector<Copy> copies;  // begun and not awaited
  unsigned copy_groups = 0;  // ended
  std::uint64_t allocations_seen = 0;
  // For TSan: whether there was a fence, the thread that knows what came before the last one, and the addresses of the
  // last atomic operations.
  bool fenced = false;
  std::unique_ptr<Fiber> before_fence;
  std::array<void*, 8> atomics{};
  unsigned next_atomic = 0;
};

// Prints what is wrong, where, and what the threads of the block wait for; aborts. The kernel is at fault.
[[noreturn]] void report(const std::string& what, Place place);
[[noreturn]] void report(const std::string& what);

// Names that are mostly the same literal.
inline bool same_text(const char* a, const char* b) {
  return a == b || std::strcmp(a, b) == 0;
}

inline bool same(Place a, Place b) {
  return a.line() == b.line() && a.column() == b.column() && same_text(a.file_name(), b.file_name());
}

Thread& current();
int threads_of_block();
Thread& thread_of_block(int number);
int pool_of_block();

// The running thread waits until someone wakes it.
void wait_in(const char* operation, unsigned mask, Place place);
// The running thread, which has been woken already, goes to the end of the queue.
void let_others_run();
void wake(Thread& thread);

// warp.cpp: the lanes of a new block; a thread that ends.
void start_warps();
void leave_warp(Thread& thread);

// shared_memory.cpp: gives a new block its dynamic shared memory and forgets that of the last one. `most`: what the
// block may use in all.
void start_shared_memory(std::size_t dynamic_bytes, std::size_t most);
void end_shared_memory();
bool has_shared_memory();

// Runs `allocate` as the launching thread would, then lets the running one see it: memory that a thread allocates looks
// to TSan as if that thread had written it.
void as_launcher(void (*allocate)(void*), void* argument);
void see_allocations();

// Frees `run`, which the work's threads have read, by a thread of its own that comes after them: the launching one
// does not.
void forget_arguments(Work& work);

}  // namespace simt
