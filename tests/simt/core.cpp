// The scheduler: a pool of threads, those that may go on, the barrier of the block, and the loop over the blocks.
#include "simt/core.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <random>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "simt/device.h"
#include "simt/grid.h"
#include "simt/schedule.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace simt {
namespace {

Schedule schedule_of_environment() {
  const char* text = std::getenv("EMBER_SIMT_SCHEDULE");
  const std::string_view name = text == nullptr ? "fifo" : text;
  if (name == "fifo") return {Order::fifo, 0};
  if (name == "lifo") return {Order::lifo, 0};
  constexpr std::string_view kRandom = "random:";
  char* end = nullptr;
  const std::uint64_t seed = name.starts_with(kRandom) ? std::strtoull(text + kRandom.size(), &end, 10) : 0;
  if (end == nullptr || *end != 0 || end == text + kRandom.size()) {
    std::fprintf(stderr, "simt: EMBER_SIMT_SCHEDULE is '%s'; fifo, lifo or random:SEED was expected\n", text);
    std::abort();
  }
  return {Order::random, seed};
}

// Threads that may go on, in the order in which they were woken. At most all of a block.
class ReadyThreads {
 public:
  void push(Thread* thread) { at(end_++) = thread; }
  bool empty() const { return begin_ == end_; }
  Thread* take(Order order, std::minstd_rand& random) {
    if (order == Order::fifo) return at(begin_++);
    if (order == Order::random) std::swap(at(begin_ + random() % (end_ - begin_)), at(end_ - 1));
    return at(--end_);
  }

 private:
  Thread*& at(unsigned i) { return ring_[i % ring_.size()]; }
  std::array<Thread*, kMostThreads> ring_{};
  unsigned begin_ = 0, end_ = 0;
};

constexpr std::size_t kStackOfLibrary = 8 << 20;

struct Barrier {
  int arrived = 0;  // threads
  int warps = 0;    // that it is for, where it is not the block's
  Place place;
  unsigned generation = 0;
  // Two for the threads of each pool, because a thread may reach the next barrier before another has left this one.
  char tags[kPools][2];
};

using Pool = std::vector<std::unique_ptr<Thread>>;  // grows, is never freed: fibers are used again

struct Core {
  Schedule schedule = schedule_of_environment();
  std::minstd_rand random{static_cast<std::minstd_rand::result_type>(schedule.seed + 1)};
  Pool pools[kPools];
  int pool_number = 0;  // the running block's
  Fiber launcher;
  Fiber sweeper{Fiber::Stackless{}};
  std::unique_ptr<Fiber> library;
  Thread* running = nullptr;
  ReadyThreads ready;
  int count = 0;  // threads of the block
  int alive = 0;
  std::array<Barrier, kBarriers> barriers;      // the first is the block's
  const std::function<void()>* body = nullptr;  // the kernel with its arguments
  bool early = false;                           // whether the grid is one whose threads must await the grid before it
  std::size_t overlaps_so_far = 0;
  bool first = false, last = false;     // whether the block is the first or last of this grid for its pool
  char block_ends, launcher_allocates;  // tags
  std::uint64_t allocations = 0;        // what the launcher has released there so often
  Pool& pool() { return pools[pool_number]; }
};

Core& core() {
  static Core& instance = *new Core;  // outlives every destructor
  return instance;
}

std::string name_of(const uint3& index) {
  return fmt::format("({}, {}, {})", index.x, index.y, index.z);
}

std::string name_of(Place place) {
  return fmt::format("{}:{}", place.file_name(), place.line());
}

// Leaves `from` for the next thread that may go on, or for the launcher when all have ended.
void switch_from(Fiber& from) {
  Core& c = core();
  if (c.ready.empty()) {
    if (c.alive > 0) report("deadlock: every thread waits for one that does not come");
    c.launcher.resume(from);
    return;
  }
  Thread* next = c.ready.take(c.schedule.order, c.random);
  if (next == c.running && &from == &next->fiber) return;
  c.running = next;
  threadIdx = next->index;
  next->fiber.resume(from);
}

void open(Barrier& barrier) {
  barrier.arrived = 0;
  ++barrier.generation;
  for (const auto& thread : std::span(core().pool()).first(core().count))
    if (thread->barrier == &barrier) {
      thread->barrier = nullptr;
      wake(*thread);
    }
}

void open_block_barrier_when_complete() {
  Core& c = core();
  if (c.alive > 0 && c.barriers[0].arrived == c.alive) open(c.barriers[0]);
}

// A device counts the warps that arrive, not their lanes.
void require_whole_warps(const Barrier& barrier) {
  Core& c = core();
  for (int first = 0; first < c.count; first += kWarpSize) {
    const auto lanes = std::span(c.pool()).subspan(first, std::min(kWarpSize, c.count - first));
    const auto here = std::count_if(lanes.begin(), lanes.end(), [&](const auto& t) { return t->barrier == &barrier; });
    if (here != 0 && here != std::ssize(lanes))
      report("more warps than it is for are in barrier_of_warps", barrier.place);
  }
}

// The running thread arrives, opens the barrier if `last` says that it is the last one, and goes on when it is open.
template <typename Last>
void arrive(Barrier& barrier, const char* name, Place place, const Last& last) {
  if (barrier.arrived > 0 && !same(place, barrier.place))
    report(fmt::format("threads of one block are in different barriers: {} at {} and", name, name_of(barrier.place)),
           place);
  barrier.place = place;
  char& tag = barrier.tags[core().pool_number][barrier.generation % 2];
  release(&tag);
  ++barrier.arrived;
  current().barrier = &barrier;
  if (last()) {
    open(barrier);
    let_others_run();
  } else {
    wait_in(name, 0, place);
  }
  acquire(&tag);
}

// What a thread of the pool does all its life: one block after another.
void thread_main() {
  Core& c = core();
  for (;;) {
    if (c.first) grid_order().thread_begins();
    (*c.body)();
    if (c.last) grid_order().thread_ends();
    if (has_shared_memory()) release(&c.block_ends);
    Thread& self = *c.running;
    if (c.early && !self.awaited)
      report("a thread of a grid that was launched early has ended without await_previous_grid()");
    if (!self.copies.empty()) report("a thread has ended without await_copies() for those that it began");
    self.ended = true;
    --c.alive;
    leave_warp(self);
    open_block_barrier_when_complete();
    switch_from(self.fiber);
  }
}

// The same of what is no kernel, one after another.
void library_main() {
  Core& c = core();
  for (;;) {
    grid_order().thread_begins();
    (*c.body)();
    grid_order().thread_ends();
    c.launcher.resume(*c.library);
  }
}

void run_block(dim3 block) {
  Core& c = core();
  c.alive = c.count;
  for (Barrier& barrier : c.barriers) barrier.arrived = 0;
  for (int i = 0; i < c.count; ++i) {
    Thread& thread = *c.pool()[i];
    const auto n = static_cast<unsigned>(i);
    thread.index = {n % block.x, n / block.x % block.y, n / (block.x * block.y)};
    thread.number = i;
    thread.lane = i % kWarpSize;
    thread.warp = i / kWarpSize;
    thread.ended = false;
    thread.awaited = false;
    thread.fenced = false;
    thread.atomics = {};
    wake(thread);
  }
  start_warps();
  switch_from(c.launcher);
  c.running = nullptr;
}

// Does something in the name of `other`, as TSan sees it.
template <typename Action>
void act_as(Fiber& other, Fiber& self, const Action& action) {
  other.impersonate();
  action();
  self.impersonate();
}

// By a thread of its own, which to TSan comes after the block's: were it the launching one, its next allocation would
// order the next block after this one.
void sweep_shared_memory() {
  Core& c = core();
  if (!has_shared_memory()) return;
  act_as(c.sweeper, c.launcher, [&c] {
    acquire(&c.block_ends);
    acquire(&c.launcher_allocates);
    end_shared_memory();
  });
}

// To TSan the first blocks of an overlapping grid alone have not awaited the grid before it, since the others are run
// by the same threads; so another one is the first each time.
std::vector<std::size_t> order_of_blocks(std::size_t count) {
  std::vector<std::size_t> order(count);
  std::iota(order.begin(), order.end(), std::size_t{0});
  Core& c = core();
  if (c.schedule.order == Order::lifo) std::reverse(order.begin(), order.end());
  if (c.schedule.order == Order::random) std::shuffle(order.begin(), order.end(), c.random);
  if (grid_order().overlaps())
    std::rotate(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(c.overlaps_so_far++ % count), order.end());
  return order;
}

// "threads 0 to 31 wait in __syncthreads at reduce.cu:20" for each stretch of threads that are alike.
void print_waiting_threads() {
  Core& c = core();
  std::string last;
  int first = 0;
  for (int i = 0; i <= c.count; ++i) {
    std::string state;
    if (i < c.count) {
      const Thread& t = *c.pool()[i];
      state = t.ended ? "have ended" : "may go on";
      if (!t.ended && t.waits_in != nullptr) {
        state = fmt::format("wait in {} at {}", t.waits_in, name_of(t.place));
        if (t.mask != 0) state += fmt::format(", mask {:#010x}", t.mask);
      }
    }
    if (state == last) continue;
    if (!last.empty()) std::fprintf(stderr, "  threads %d to %d %s\n", first, i - 1, last.c_str());
    last = state;
    first = i;
  }
}

void run_blocks(dim3 grid, dim3 block, std::size_t dynamic_bytes, std::size_t most_shared) {
  Core& c = core();
  const int set = grid_order().set(), first_pool = set == 0 ? 0 : kPoolsOfFirstSet + set - 1;
  const int pools = c.count <= kMostThreadsOfTwoPools && set == 0 ? kPoolsOfFirstSet : 1;
  for (Pool& pool : std::span(c.pools).subspan(first_pool, pools))
    while (static_cast<int>(pool.size()) < c.count) pool.push_back(std::make_unique<Thread>(&thread_main));
  const std::vector<std::size_t> order = order_of_blocks(std::size_t{grid.x} * grid.y * grid.z);
  for (std::size_t turn = 0; turn < order.size(); ++turn) {
    const std::size_t i = order[turn];
    blockIdx = {static_cast<unsigned>(i % grid.x), static_cast<unsigned>(i / grid.x % grid.y),
                static_cast<unsigned>(i / grid.x / grid.y)};
    c.pool_number = first_pool + static_cast<int>(turn % pools);
    c.first = turn < static_cast<std::size_t>(pools);
    c.last = turn + pools >= order.size();
    start_shared_memory(dynamic_bytes, most_shared);
    release(&c.launcher_allocates);
    ++c.allocations;
    run_block(block);
    sweep_shared_memory();
  }
}

}  // namespace

void set_schedule(Schedule schedule) {
  core().schedule = schedule;
  core().random.seed(static_cast<std::minstd_rand::result_type>(schedule.seed + 1));
}

Schedule schedule() {
  return core().schedule;
}

std::size_t whose_turn(std::size_t count) {
  const Order order = core().schedule.order;
  return order == Order::fifo ? 0 : order == Order::lifo ? count - 1 : core().random() % count;
}

void report(const std::string& what, Place place) {
  report(fmt::format("{} at {}", what, name_of(place)));
}

void report(const std::string& what) {
  std::fprintf(stderr, "simt: %s", what.c_str());
  if (const Thread* thread = core().running; thread != nullptr) {
    std::fprintf(stderr, "; block %s, thread %s\n", name_of(blockIdx).c_str(), name_of(thread->index).c_str());
    print_waiting_threads();
  } else {
    std::fprintf(stderr, "\n");
  }
  std::fflush(stderr);
  std::abort();
}

Thread& current() {
  return *core().running;
}

int lane() {
  return current().lane;
}

int threads_of_block() {
  return core().count;
}

Thread& thread_of_block(int number) {
  return *core().pool()[static_cast<std::size_t>(number)];
}

int pool_of_block() {
  return core().pool_number;
}

void wake(Thread& thread) {
  thread.waits_in = nullptr;
  core().ready.push(&thread);
}

void wait_in(const char* operation, unsigned mask, Place place) {
  Thread& self = current();
  self.waits_in = operation;
  self.mask = mask;
  self.place = place;
  switch_from(self.fiber);
}

void let_others_run() {
  switch_from(current().fiber);
}

void block_barrier(Place place) {
  Barrier& barrier = core().barriers[0];
  arrive(barrier, "__syncthreads", place, [&] { return barrier.arrived == core().alive; });
}

void barrier_of_warps(int id, int warps, Place place) {
  if (id < 1 || id >= kBarriers) report(fmt::format("barrier_of_warps has no barrier {}", id), place);
  Barrier& barrier = core().barriers[static_cast<std::size_t>(id)];
  if (barrier.arrived > 0 && warps != barrier.warps)
    report(fmt::format("barrier {} is for {} warps and for {}", id, barrier.warps, warps), place);
  barrier.warps = warps;
  arrive(barrier, "barrier_of_warps", place, [&] {
    if (barrier.arrived < warps * kWarpSize) return false;
    require_whole_warps(barrier);
    return true;
  });
}

void as_launcher(void (*allocate)(void*), void* argument) {
  Core& c = core();
  act_as(c.launcher, c.running->fiber, [&] {
    allocate(argument);
    release(&c.launcher_allocates);
  });
  ++c.allocations;
}

void see_allocations() {
  Core& c = core();
  if (std::exchange(c.running->allocations_seen, c.allocations) != c.allocations) acquire(&c.launcher_allocates);
}

void fence() {
  if constexpr (!kTsan) return;
  Thread& self = current();
  for (void* address : self.atomics)
    if (address != nullptr) acquire(address);
  if (self.before_fence == nullptr) {
    as_launcher(
        [](void* thread) { static_cast<Thread*>(thread)->before_fence = std::make_unique<Fiber>(Fiber::Stackless{}); },
        &self);
  }
  release(&self.fenced);
  self.fenced = true;
  act_as(*self.before_fence, self.fiber, [&self] { acquire(&self.fenced); });
}

void atomic_operation(void* address) {
  if constexpr (!kTsan) return;
  Thread& self = current();
  if (self.fenced) act_as(*self.before_fence, self.fiber, [address] { release(address); });
  if (std::find(self.atomics.begin(), self.atomics.end(), address) == self.atomics.end())
    self.atomics[self.next_atomic++ % self.atomics.size()] = address;
}

void remember_copy(void* to, const void* from) {
  current().copies.push_back({to, from, current().copy_groups});
}

void commit_copies() {
  ++current().copy_groups;
}

bool take_copy(Copy& copy, unsigned but) {
  const unsigned groups = current().copy_groups;
  std::vector<Copy>& copies = current().copies;
  for (Copy& begun : copies) {
    if (begun.group + but >= groups) continue;
    copy = begun;
    begun = copies.back();
    copies.pop_back();
    return true;
  }
  return false;
}

void await_previous_grid() {
  current().awaited = true;
  grid_order().thread_awaits();
}

bool code_can_await() {
  return device().major >= 9;
}

void trap() {
  report("__trap()");
}

void forget_arguments(Work& work) {
  Core& c = core();
  release(&work.given);  // the launching thread has read it too
  act_as(c.sweeper, c.launcher, [&work] {
    acquire(&work.given);
    acquire(&work.ended);
    work.run.reset();
  });
}

void run_grid(dim3 grid, dim3 block, std::size_t dynamic_bytes, std::size_t most_shared, bool early,
              const std::function<void()>& thread) {
  Core& c = core();
  if (c.running != nullptr) report("a kernel launches a kernel");
  c.count = static_cast<int>(block.x * block.y * block.z);
  c.early = early;
  c.body = &thread;
  gridDim = grid;
  blockDim = block;
  run_blocks(grid, block, dynamic_bytes, most_shared);
}

void run_library(const std::function<void()>& work) {
  if (!kTsan) return work();
  Core& c = core();
  if (c.library == nullptr) c.library = std::make_unique<Fiber>(&library_main, kStackOfLibrary);
  c.body = &work;
  c.library->resume(c.launcher);
}

}  // namespace simt
