// In which order the threads of a block, and the blocks of a grid, take their turns.
#pragma once

#include <cstdint>

namespace simt {

// fifo: who has waited longest; blocks in order. lifo: who became ready last; blocks in reverse. random: anyone.
enum class Order { fifo, lifo, random };

struct Schedule {
  Order order = Order::fifo;
  std::uint64_t seed = 0;  // of Order::random
};

// The schedule of all later launches. At the start it is what EMBER_SIMT_SCHEDULE says (fifo, lifo, random:SEED), fifo
// without it; any other text aborts.
void set_schedule(Schedule schedule);
Schedule schedule();

}  // namespace simt
