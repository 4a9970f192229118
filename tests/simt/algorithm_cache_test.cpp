// The file and the text of matrix products' algorithms; they need no device.
#include "kernels/cuda/algorithm_cache.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <vector>

#include "runtime/error.h"
#include "runtime/file.h"
#include "tests/support.h"

namespace ember {
namespace {

using Algorithm = AlgorithmCache::Algorithm;
constexpr Algorithm kOne{1, 2, 3, 4, 5, 6, 7, 0xFFFFFFFFFFFFFFFF}, kTwo{9};

TEST(AlgorithmCache, KeepsWhatWasAddedFromRunToRun) {
  const testing::TemporaryDirectory folder;
  const auto file = folder / "deep" / "file.txt";
  {
    AlgorithmCache cache("T4, 12", file);
    EXPECT_EQ(cache.find("forward rows=32"), nullptr);
    cache.save();
    EXPECT_FALSE(std::filesystem::exists(file)) << "there was nothing to keep";
    cache.add("forward rows=32", kOne);
    cache.save();
  }
  AlgorithmCache other("T4, 12", file), late("T4, 12", file), different("H100, 12", file), older("T4, 1", file);
  ASSERT_NE(other.find("forward rows=32"), nullptr);
  EXPECT_EQ(*other.find("forward rows=32"), kOne);
  EXPECT_EQ(different.find("forward rows=32"), nullptr) << "of another device";
  EXPECT_EQ(older.find("forward rows=32"), nullptr) << "of another version";
  other.add("forward rows=64", kTwo);
  other.save();
  late.add("backward rows=32", kTwo);
  late.save();
  const AlgorithmCache all("T4, 12", file);
  EXPECT_TRUE(all.find("forward rows=32") && all.find("forward rows=64") && all.find("backward rows=32"));
}

// Two instances that live at the same time agree on what either measured first.
TEST(AlgorithmCache, TakesOverWhatOthersMeasureMeanwhile) {
  const testing::TemporaryDirectory folder;
  const auto file = folder / "file.txt";
  AlgorithmCache one("T4, 12", file), other("T4, 12", file);
  other.reload();
  EXPECT_EQ(other.find("a"), nullptr) << "there is no file";
  one.add("a", kOne);
  one.save();
  EXPECT_EQ(other.find("a"), nullptr);
  other.reload();
  ASSERT_NE(other.find("a"), nullptr);
  EXPECT_EQ(*other.find("a"), kOne);
  const auto written = std::filesystem::last_write_time(file);
  other.save();
  EXPECT_EQ(std::filesystem::last_write_time(file), written) << "it has nothing that the file has not";
  one.add("b", kOne);
  one.save();
  other.add("b", kTwo);
  other.reload();
  EXPECT_EQ(*other.find("b"), kTwo) << "what was measured here stays";
  write_file_atomically(file, "nonsense");
  other.reload();
  EXPECT_EQ(*other.find("a"), kOne) << "a damaged file changes nothing";
  std::filesystem::remove(file);
  one.save();
  EXPECT_FALSE(std::filesystem::exists(file)) << "what is saved may since be another's";
}

TEST(AlgorithmCache, NothingIsLostWhenManySaveAtTheSameTime) {
  const testing::TemporaryDirectory folder;
  const auto file = folder / "file.txt";
  constexpr int kRuns = 4, kShapes = 16;
  std::vector<pid_t> children;
  for (int run = 0; run < kRuns; ++run) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      [&]() noexcept {
        AlgorithmCache cache("T4, 12", file);
        for (int shape = 0; shape < kShapes; ++shape) {
          cache.add(fmt::format("{} {}", run, shape), kOne);
          cache.save();
        }
        _exit(0);
      }();
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = -1;
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
  }
  const AlgorithmCache all("T4, 12", file);
  for (int run = 0; run < kRuns; ++run)
    for (int shape = 0; shape < kShapes; ++shape)
      EXPECT_NE(all.find(fmt::format("{} {}", run, shape)), nullptr) << run << ", " << shape;
}

TEST(AlgorithmCache, TextOfACheckpointGoesFirst) {
  const testing::TemporaryDirectory folder;
  AlgorithmCache cache("T4, 12", {}), measured("T4, 12", folder / "file.txt"), elsewhere("T4, 13", {});
  cache.add("a", kOne);
  cache.add("b", kTwo);
  measured.add("a", kTwo);
  measured.add("c", kTwo);
  EXPECT_TRUE(measured.merge(cache.text()));
  EXPECT_EQ(*measured.find("a"), kOne);
  EXPECT_EQ(*measured.find("b"), kTwo);
  EXPECT_EQ(*measured.find("c"), kTwo);
  EXPECT_FALSE(elsewhere.merge(cache.text()));
  EXPECT_EQ(elsewhere.find("a"), nullptr);
  measured.save();
  EXPECT_EQ(AlgorithmCache("T4, 12", folder / "file.txt").text(), measured.text()) << "its algorithms are kept, too";
}

TEST(AlgorithmCache, WithoutAFileNothingIsSaved) {
  AlgorithmCache cache("T4, 12", {});
  cache.add("a", kOne);
  EXPECT_NO_THROW(cache.save());
}

TEST(AlgorithmCache, RefusesWhatIsNotSuchAText) {
  AlgorithmCache cache("T4, 12", {});
  cache.add("a", kOne);
  const std::string good = cache.text(), title = good.substr(0, good.find('\n') + 1);
  cache.merge(good);
  const std::string digits(128, '0');
  for (const std::string& bad :
       {std::string("nonsense"), std::string(), "an " + good, title + "12 a\n", title + good.substr(title.size() + 1),
        title + std::string(128, 'g') + " a\n", title + digits.substr(1) + "g a\n", title + digits + "\n",
        title + digits + " \n", title + digits + "a\n", title + digits + "ab\n"})
    EXPECT_THROW(cache.merge(bad), Error) << bad;
  EXPECT_EQ(cache.text(), good);
  const testing::TemporaryDirectory folder;
  write_file_atomically(folder / "file.txt", "nonsense");
  AlgorithmCache damaged("T4, 12", folder / "file.txt");
  EXPECT_EQ(damaged.find("a"), nullptr);
  damaged.add("a", kOne);
  damaged.save();
  EXPECT_EQ(read_file(folder / "file.txt"), good);
}

TEST(AlgorithmCache, TheFileIsWhereTheEnvironmentSays) {
  for (const char* name : {"EMBER_CACHE_DIR", "XDG_CACHE_HOME", "HOME"}) unsetenv(name);
  EXPECT_EQ(algorithm_cache_file("T4"), "");
  setenv("HOME", "/home/a", 1);
  EXPECT_EQ(algorithm_cache_file("Tesla T4 sm_75, cuBLASLt 12.9"),
            "/home/a/.cache/ember/matmul-Tesla-T4-sm-75--cuBLASLt-12.9.txt");
  setenv("XDG_CACHE_HOME", "/cache", 1);
  EXPECT_EQ(algorithm_cache_file("T4").parent_path(), "/cache/ember");
  setenv("EMBER_CACHE_DIR", "", 1);
  EXPECT_EQ(algorithm_cache_file("T4").parent_path(), "/cache/ember") << "an empty variable is none";
  setenv("EMBER_CACHE_DIR", "/here", 1);
  EXPECT_EQ(algorithm_cache_file("T4").parent_path(), "/here");
}

}  // namespace
}  // namespace ember
