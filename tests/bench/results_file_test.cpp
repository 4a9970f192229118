#include "bench/results_file.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "runtime/error.h"
#include "runtime/file.h"
#include "tests/full_disk.h"
#include "tests/support.h"

namespace ember {
namespace {

nlohmann::json content(const std::filesystem::path& path) {
  return nlohmann::json::parse(read_file(path));
}

TEST(ResultsFile, IsADocumentAfterEveryResult) {
  const testing::TemporaryDirectory folder;
  const auto path = folder / "results.json";
  write_file(path, std::string(1000, 'x'));  // what was there before goes
  ResultsFile file(path, R"({"date": "today"})");
  EXPECT_EQ(content(path), nlohmann::json::parse(R"({"context": {"date": "today"}, "results": []})"));
  file.add(R"({"seconds": 1})");
  EXPECT_EQ(content(path)["results"], nlohmann::json::parse(R"([{"seconds": 1}])"));
  file.add(R"({"seconds": 2})");
  EXPECT_EQ(content(path)["results"], nlohmann::json::parse(R"([{"seconds": 1}, {"seconds": 2}])"));
}

// In the middle of a write.
TEST(ResultsFile, AFullDiskKeepsWhatWasThere) {
  const testing::TemporaryDirectory folder;
  const auto path = folder / "results.json";
  ResultsFile file(path, "{}");
  file.add(R"({"seconds": 1})");
  const std::string before = read_file(path);
  const std::string message = testing::error_of([&] {
    const testing::FullDisk disk(before.size() + 20);
    file.add("\"" + std::string(100, 'x') + "\"");
  });
  EXPECT_NE(message.find("results.json: cannot be written: File too large; the 1 results before are in it"),
            std::string::npos)
      << message;
  EXPECT_EQ(read_file(path), before);
}

TEST(ResultsFile, WhereItCannotBe) {
  EXPECT_THROW(ResultsFile("/dev/full", "{}"), Error);
  EXPECT_THROW(ResultsFile("/no/such/folder/results.json", "{}"), Error);
}

}  // namespace
}  // namespace ember
