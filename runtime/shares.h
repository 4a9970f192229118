// Work that falls into independent shares, done on several threads at once.
#pragma once

#include <cstddef>
#include <functional>

namespace ember {

inline constexpr int kMostThreads = 4096;

// Error unless `threads`, as --threads gave it, is such a number or 0, which stands for all.
void check_threads(int threads);

// `threads`, or where that is 0 what OMP_NUM_THREADS says or, unless it is set, as many as OpenMP would take, one for
// each processor that the process may run on, but no more than its control groups' quota (runtime/cpu_quota.h), which
// is looked up once; and no more than OMP_THREAD_LIMIT. Error when that is more than kMostThreads.
int thread_count(int threads);

// How many shares `items` fall into: thread_count(threads), or fewer where each would have less than `least` items, so
// that its thread would cost more than it saves, but at least one.
std::size_t count_shares(int threads, std::size_t items, std::size_t least);

// Calls work(share, begin, end) for each of `count` >= 1 shares of [0, items), at the same time: the caller does the
// first, a thread of its own each other one, or the caller, too, where no thread is to be had. Once all have ended,
// throws what the first of those that failed threw.
void in_shares(std::size_t count, std::size_t items,
               const std::function<void(std::size_t share, std::size_t begin, std::size_t end)>& work);

}  // namespace ember
