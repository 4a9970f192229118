// Collectives of a warp. Each one under way is an Exchange: a mask, what its lanes gave, and who has come. Several may
// be under way in one warp when no lane is in two of them.
#include <fmt/format.h>

#include <array>
#include <memory>

#include "simt/core.h"
#include "simt/half_to_float.h"

namespace simt {

// Lanes as m16n8k8 lays them out: lane 4 g + t has of A rows g and g + 8, columns 2 t and 2 t + 1; of B rows 2 t and
// 2 t + 1, column g; of C and D rows g and g + 8, columns 2 t and 2 t + 1.
constexpr int kRows = 16, kColumns = 8, kInner = 8;
struct Fragments {
  float a[4], b[2], d[4];
};

struct Exchange {
  const char* operation = nullptr;
  unsigned mask = 0;
  unsigned arrived = 0;  // lanes that have come; all have when it equals the mask
  int readers = 0;       // lanes that may still read the words
  Place place{};         // of the lane that came first
  // One for each pool. Used again for the same mask while there are enough exchanges: TSan's edges then join lanes that
  // are joined already.
  char tags[kPools] = {};
  union {
    std::uint32_t words[kWarpSize][kMostWords];
    const void* pointers[kWarpSize];
    Fragments fragments[kWarpSize];
  };
};

namespace {

struct Warp {
  unsigned alive = 0;  // lanes that have not ended
  // A lane is in one at most, so that there always is one to spare. Not a vector, which calls memmove (core.h).
  std::array<std::unique_ptr<Exchange>, 2 * kWarpSize> exchanges;
};

Warp& warp(int number) {
  static Warp* const warps = new Warp[kMostThreads / kWarpSize];
  return warps[number];
}

bool under_way(const Exchange& e) {
  return e.operation != nullptr && e.arrived != e.mask;
}

void let_go(Thread& thread) {
  if (thread.held == nullptr) return;
  if (--thread.held->readers == 0) thread.held->operation = nullptr;
  thread.held = nullptr;
}

// The mask without lanes that the block never had; a report when it names none or one that has ended.
unsigned checked_mask(const char* operation, unsigned mask, Place place) {
  const Thread& self = current();
  const unsigned alive = warp(self.warp).alive;
  const int size = threads_of_block() - self.warp * kWarpSize;
  const unsigned exist = size >= kWarpSize ? ~0u : (1u << size) - 1;
  if (mask == ~0u) mask = exist;
  if ((mask >> self.lane & 1) == 0)
    report(fmt::format("lane {} calls {} with mask {:#010x}, which does not name it", self.lane, operation, mask),
           place);
  if ((mask & ~alive) != 0)
    report(fmt::format("{} with mask {:#010x} names lanes {:#010x}, which have ended or do not exist", operation, mask,
                       mask & ~alive),
           place);
  return mask;
}

// Two lanes that wait for each other in different collectives will do so for ever.
void require_no_conflict(const Exchange& e, const char* operation, unsigned mask, Place place) {
  const Thread& self = current();
  if ((e.mask >> self.lane & 1) != 0 && (e.arrived & mask) != 0)
    report(
        fmt::format("lanes of one warp are in different collectives: {} with mask {:#010x} and {} with mask {:#010x}",
                    e.operation, e.mask, operation, mask),
        place);
}

// The exchange that this lane joins: one under way, or a new one.
Exchange& join(const char* operation, unsigned mask, Place place) {
  Warp& w = warp(current().warp);
  Exchange *unused = nullptr, *of_same_mask = nullptr;
  for (auto& e : w.exchanges) {
    if (e == nullptr) {
      if (of_same_mask == nullptr) e = std::make_unique<Exchange>(), of_same_mask = e.get();
      break;
    }
    if (under_way(*e)) {
      if (e->mask == mask && same_text(e->operation, operation)) return *e;
      require_no_conflict(*e, operation, mask, place);
    } else if (e->operation == nullptr) {
      unused = e.get();
      if (e->mask == mask) of_same_mask = e.get();
    }
  }
  Exchange& e = *(of_same_mask != nullptr ? of_same_mask : unused);
  e.operation = operation;
  e.mask = mask;
  e.arrived = 0;
  e.readers = 0;
  return e;
}

// give(exchange, lane) writes what this lane gives; returns when all lanes of the mask have come. `complete` runs once,
// before any lane goes on.
template <typename Give>
Exchange& exchange(const char* operation, unsigned mask, Place place, Give give, bool orders_memory = false,
                   void (*complete)(Exchange&) = nullptr) {
  Thread& self = current();
  let_go(self);
  mask = checked_mask(operation, mask, place);
  Exchange& e = join(operation, mask, place);
  if (e.arrived == 0) e.place = place;
  e.arrived |= 1u << self.lane;
  ++e.readers;
  self.held = &e;
  give(e, self.lane);
  char& tag = e.tags[pool_of_block()];
  if (orders_memory) release(&tag);
  if (e.arrived == mask) {
    if (complete != nullptr) complete(e);
    for (int i = 0; i < kWarpSize; ++i)
      if ((mask >> i & 1) != 0) wake(thread_of_block(self.warp * kWarpSize + i));
    let_others_run();
  } else {
    wait_in(operation, mask, place);
  }
  if (orders_memory) acquire(&tag);
  return e;
}

void require_whole_warp(const char* operation, Place place) {
  if (warp(current().warp).alive != ~0u) report(fmt::format("{} needs all 32 lanes of the warp", operation), place);
}

// PTX: all lanes must execute the same instruction of those that are .aligned.
void require_same_instruction(const Exchange& e, const char* operation, Place place) {
  if (same(e.place, place)) return;
  report(fmt::format("lanes of one warp are at different calls of {}, one at line {}", operation, e.place.line()),
         place);
}

void multiply(Exchange& e) {
  float a[kRows][kInner], b[kInner][kColumns], d[kRows][kColumns];
  for (int lane = 0; lane < kWarpSize; ++lane) {
    const Fragments& f = e.fragments[lane];
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i) {
      a[g + 8 * (i / 2)][2 * t + i % 2] = f.a[i];
      d[g + 8 * (i / 2)][2 * t + i % 2] = f.d[i];
    }
    for (int i = 0; i < 2; ++i) b[2 * t + i][g] = f.b[i];
  }
  for (int row = 0; row < kRows; ++row)
    for (int k = 0; k < kInner; ++k)
      for (int column = 0; column < kColumns; ++column) d[row][column] += a[row][k] * b[k][column];
  for (int lane = 0; lane < kWarpSize; ++lane) {
    Fragments& f = e.fragments[lane];
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i) f.d[i] = d[g + 8 * (i / 2)][2 * t + i % 2];
  }
}

}  // namespace

void start_warps() {
  for (int i = 0; i < kMostThreads / kWarpSize; ++i) {
    const int size = threads_of_block() - i * kWarpSize;
    warp(i).alive = size >= kWarpSize ? ~0u : size <= 0 ? 0 : (1u << size) - 1;
  }
}

void leave_warp(Thread& thread) {
  let_go(thread);
  Warp& w = warp(thread.warp);
  w.alive &= ~(1u << thread.lane);
  for (const auto& e : w.exchanges)
    if (e != nullptr && under_way(*e) && (e->mask >> thread.lane & 1) != 0)
      report(fmt::format("a thread ends while lanes of its warp wait for it in {} with mask {:#010x}", e->operation,
                         e->mask));
}

void warp_barrier(unsigned mask, Place place) {
  exchange(
      "__syncwarp", mask, place, [](Exchange&, int) {}, true);
}

void shuffle(const char* operation, unsigned mask, const std::uint32_t* in, std::uint32_t* out, int words, int source,
             Place place) {
  const Exchange& e = exchange(operation, mask, place, [=](Exchange& mine, int lane) {
    for (int i = 0; i < words; ++i) mine.words[lane][i] = in[i];
  });
  if ((e.mask >> source & 1) == 0)
    report(
        fmt::format("{} with mask {:#010x} reads from lane {}, which the mask does not name", operation, mask, source),
        place);
  for (int i = 0; i < words; ++i) out[i] = e.words[source][i];
}

unsigned ballot(const char* operation, unsigned mask, bool predicate, Place place) {
  const Exchange& e =
      exchange(operation, mask, place, [=](Exchange& mine, int lane) { mine.words[lane][0] = predicate; });
  unsigned bits = 0;
  for (int i = 0; i < kWarpSize; ++i)
    if ((e.mask >> i & 1) != 0) bits |= e.words[i][0] << i;
  return bits;
}

void exchange_pointers(const char* operation, const void* mine, const void* (&rows)[kWarpSize], Place place) {
  require_whole_warp(operation, place);
  const Exchange& e = exchange(operation, ~0u, place, [=](Exchange& given, int lane) {
    require_same_instruction(given, operation, place);
    given.pointers[lane] = mine;
  });
  for (int i = 0; i < kWarpSize; ++i) rows[i] = e.pointers[i];
}

void multiply_accumulate(float (&d)[4], const std::uint32_t (&a)[2], std::uint32_t b, Place place) {
  constexpr const char* kOperation = "mma.m16n8k8";
  require_whole_warp(kOperation, place);
  const auto give = [&](Exchange& e, int lane) {
    require_same_instruction(e, kOperation, place);
    Fragments& mine = e.fragments[lane];
    for (int i = 0; i < 2; ++i) {
      mine.a[2 * i] = half_to_float(static_cast<std::uint16_t>(a[i]));
      mine.a[2 * i + 1] = half_to_float(static_cast<std::uint16_t>(a[i] >> 16));
      mine.b[i] = half_to_float(static_cast<std::uint16_t>(b >> 16 * i));
    }
    for (int i = 0; i < 4; ++i) mine.d[i] = d[i];
  };
  const Exchange& e = exchange(kOperation, ~0u, place, give, false, multiply);
  for (int i = 0; i < 4; ++i) d[i] = e.fragments[current().lane].d[i];
}

}  // namespace simt
