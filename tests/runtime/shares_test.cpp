#include "runtime/shares.h"

#include <gtest/gtest.h>
#include <omp.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "runtime/cpu_quota.h"
#include "runtime/error.h"

namespace ember {
namespace {

TEST(Shares, AreAsManyAsThreadsUnlessItemsAreFew) {
  EXPECT_EQ(count_shares(3, 1000, 100), 3u);
  EXPECT_EQ(count_shares(16, 1000, 100), 10u);
  EXPECT_EQ(count_shares(16, 199, 100), 1u);
  EXPECT_EQ(count_shares(16, 1, 1), 1u);
  EXPECT_EQ(count_shares(1, 1000, 1), 1u);
  EXPECT_EQ(count_shares(5, 0, 64), 1u);
  EXPECT_EQ(count_shares(0, 1 << 20, 1), static_cast<std::size_t>(thread_count(0)));
  EXPECT_EQ(thread_count(3), 3);
  const int before = omp_get_max_threads();
  EXPECT_EQ(thread_count(0), std::getenv("OMP_NUM_THREADS") == nullptr ? std::min(before, cpu_quota()) : before);
  omp_set_num_threads(100'000);
  EXPECT_THROW(thread_count(0), Error);
  omp_set_num_threads(before);
}

TEST(Shares, AreOfSoManyThreadsAtMost) {
  for (const int threads : {0, 1, kMostThreads}) EXPECT_NO_THROW(check_threads(threads)) << threads;
  for (const int threads : {-1, kMostThreads + 1}) EXPECT_THROW(check_threads(threads), Error) << threads;
}

TEST(Shares, CoverEveryItemOnce) {
  for (const std::size_t items : {0, 1, 6, 7, 8, 100})
    for (const std::size_t count : {1, 2, 7}) {
      std::vector<int> seen(items);
      std::vector<std::size_t> calls(count);
      in_shares(count, items, [&](std::size_t share, std::size_t begin, std::size_t end) {
        ++calls[share];
        for (std::size_t i = begin; i < end; ++i) ++seen[i];
      });
      EXPECT_EQ(seen, std::vector<int>(items, 1)) << items << " items, " << count << " shares";
      EXPECT_EQ(calls, std::vector<std::size_t>(count, 1));
    }
}

TEST(Shares, ThatFailEndTheOthersFirst) {
  std::atomic<int> ended = 0;
  try {
    in_shares(5, 5, [&](std::size_t share, std::size_t, std::size_t) {
      ++ended;
      if (share == 1 || share == 3) throw std::runtime_error(std::to_string(share));
    });
    FAIL() << "nothing was thrown";
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "1");
  }
  EXPECT_EQ(ended, 5);
}

// Where a new thread would want more memory for its stack than a process has addresses.
class NoThreads {
 public:
  NoThreads() {
    pthread_getattr_default_np(&usual_);
    pthread_attr_t vast = usual_;
    pthread_attr_setstacksize(&vast, std::size_t{1} << 50);
    pthread_setattr_default_np(&vast);
  }
  ~NoThreads() { pthread_setattr_default_np(&usual_); }

 private:
  pthread_attr_t usual_;
};

TEST(Shares, AreTheCallersWhereNoThreadIsToBeHad) {
  const NoThreads none;
  ASSERT_THROW(std::thread([] {}).join(), std::system_error);
  std::vector<int> seen(7);
  std::vector<std::thread::id> by(5);
  in_shares(5, 7, [&](std::size_t share, std::size_t begin, std::size_t end) {
    by[share] = std::this_thread::get_id();
    for (std::size_t i = begin; i < end; ++i) ++seen[i];
  });
  EXPECT_EQ(seen, std::vector<int>(7, 1));
  EXPECT_EQ(by, std::vector<std::thread::id>(5, std::this_thread::get_id()));
}

}  // namespace
}  // namespace ember
