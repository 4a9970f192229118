// The real data, where it is (tests/support.h).
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "data/examples.h"
#include "runtime/fnv1a.h"
#include "tests/support.h"

namespace ember {
namespace {

namespace fs = std::filesystem;

// FNV-1a over text, NUL, comma-separated ids and a line feed for every row.
std::uint64_t digest(const std::vector<Example>& rows) {
  std::uint64_t hash = kFnv1aStart;
  const auto add = [&](std::string_view text) {
    for (const char c : text) hash = fnv1a(hash, static_cast<unsigned char>(c));
  };
  for (const Example& row : rows) {
    add(row.text);
    add(std::string_view("\0", 1));
    for (std::size_t i = 0; i < row.labels.size(); ++i) {
      if (i > 0) add(",");
      add(std::to_string(row.labels[i]));
    }
    add("\n");
  }
  return hash;
}

// The expected values are those of Python's csv module: tests/data/expected_values.py prints them.
TEST(GoEmotions, IsReadAsPythonsCsvModuleReadsIt) {
  const fs::path path = testing::shared_dir() / "goemotions";
  EMBER_NEEDS_DATA(path);
  struct Split {
    const char* name;
    std::int64_t rows, with_quote;
    std::uint64_t digest;
  };
  const Labels labels = Labels::read(path / "labels.txt");
  EXPECT_EQ(labels.size(), 28);
  for (const Split& split :
       {Split{"train", 43410, 1097, 0x891115c0eac8174d}, Split{"dev", 5426, 137, 0xd742346390624c6d},
        Split{"test", 5427, 149, 0x52c11164646c4376}}) {
    ReadReport report;
    const auto rows = read_examples(find_split(path, split.name), labels, {}, &report);
    EXPECT_EQ(report.rows, split.rows);
    EXPECT_EQ(report.invalid_utf8, 0);
    const auto quoted = [](const Example& row) { return row.text.find('"') != std::string::npos; };
    EXPECT_EQ(std::count_if(rows.begin(), rows.end(), quoted), split.with_quote);
    EXPECT_EQ(digest(rows), split.digest) << split.name;
  }
}

TEST(GoEmotions, HasThePublishedLabelCounts) {
  const fs::path path = testing::shared_dir() / "goemotions";
  EMBER_NEEDS_DATA(path);
  const std::vector<std::int64_t> expected = {4130, 2328, 1567, 2470, 2939, 1087, 1368, 2191, 641,  1269,
                                              2022, 793,  303,  853,  596,  2662, 77,   1452, 2086, 164,
                                              1581, 111,  1110, 153,  545,  1326, 1060, 14219};
  std::vector<std::int64_t> counts(28);
  for (const Example& row : read_examples(path / "train.tsv", Labels::read(path / "labels.txt")))
    for (const std::int32_t label : row.labels) ++counts[static_cast<std::size_t>(label)];
  EXPECT_EQ(counts, expected);
}

}  // namespace
}  // namespace ember
