// Counts what a program takes from operator new: one that is linked with count_allocations.cpp, whose operators are
// those of the whole program. What oneDNN takes, whose sgemm packs its operands in memory of its own, is not counted.
#pragma once

#include <atomic>
#include <cstdint>

namespace ember::testing {

extern std::atomic<std::int64_t> allocations;

}  // namespace ember::testing
