// In which order the threads of a block, the blocks of a grid and the operations of streams take their turns, and how
// far these are behind the host.
#pragma once

#include <cstddef>
#include <cstdint>

namespace simt {

// fifo: who has waited longest; blocks and operations in order, each operation as soon as it is given. lifo: who became
// ready last; blocks in reverse; an operation when the host waits for it, before those of other streams that were given
// earlier and need not precede it. random: anyone, at any time.
enum class Order { fifo, lifo, random };

struct Schedule {
  Order order = Order::fifo;
  std::uint64_t seed = 0;  // of Order::random
};

// The schedule of all later launches. At the start it is what EMBER_SIMT_SCHEDULE says (fifo, lifo, random:SEED), fifo
// without it; any other text aborts.
void set_schedule(Schedule schedule);
Schedule schedule();

// Whose turn it is of `count` who wait in a row: the first with fifo, the last with lifo.
std::size_t whose_turn(std::size_t count);

}  // namespace simt
