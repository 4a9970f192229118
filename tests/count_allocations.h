// Counts what a program takes from operator new: one that is linked with count_allocations.cpp, whose operators are
// those of the whole program.
#pragma once

#include <atomic>
#include <cstdint>

namespace ember::testing {

extern std::atomic<std::int64_t> allocations;

}  // namespace ember::testing
