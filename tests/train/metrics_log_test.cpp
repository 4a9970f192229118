#include "train/metrics_log.h"

#include <filesystem>
#include <string>

#include "runtime/file.h"
#include "tests/full_disk.h"
#include "tests/support.h"

namespace ember {
namespace {

TEST(MetricsLog, StartsOverWithWhatItIsGiven) {
  const testing::TemporaryDirectory folder;
  const std::filesystem::path path = folder / "metrics.jsonl";
  write_file_atomically(path, "of another run\n");
  MetricsLog log(path, "{\"event\":\"start\"}\n");
  EXPECT_EQ(read_file(path), "{\"event\":\"start\"}\n");
  log.append({{"step", 2}, {"event", "train"}});
  EXPECT_EQ(read_file(path), "{\"event\":\"start\"}\n{\"step\":2,\"event\":\"train\"}\n");  // at once, keys as given
  EXPECT_EQ(log.content(), read_file(path));
}

// In the middle of a line.
TEST(MetricsLog, AFullDiskIsAnErrorThatNamesTheFile) {
  const testing::TemporaryDirectory folder;
  const std::filesystem::path path = folder / "metrics.jsonl";
  MetricsLog log(path, "");
  log.append({{"event", "train"}});
  const std::string before = log.content();
  const std::string message = testing::error_of([&] {
    const testing::FullDisk disk(before.size() + 5);
    log.append({{"event", "eval"}});
  });
  EXPECT_EQ(message, path.string() + ": cannot be written: File too large");
  EXPECT_EQ(log.content(), before);  // a checkpoint would not keep half a line
}

TEST(MetricsLog, WhereItCannotBe) {
  const testing::TemporaryDirectory folder;
  const std::filesystem::path path = folder / "none" / "metrics.jsonl";
  const std::string message = testing::error_of([&] { MetricsLog(path, ""); });
  EXPECT_CONTAINS(message, "metrics.jsonl");
}

}  // namespace
}  // namespace ember
