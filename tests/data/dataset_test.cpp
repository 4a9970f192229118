#include "data/dataset.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <map>
#include <set>

#include "runtime/error.h"
#include "tests/data/small_dataset.h"
#include "tests/support.h"

namespace ember {
namespace {

using testing::small_dataset;
using testing::TemporaryDirectory;
using Ids = std::vector<std::int32_t>;
using Indices = std::vector<std::int64_t>;

TEST(Dataset, GivesBackWhatWasAppended) {
  const Dataset dataset = small_dataset();
  ASSERT_EQ(dataset.size(), 3);
  EXPECT_EQ(dataset.length(0), 5);
  EXPECT_EQ(dataset.length(1), 2);
  EXPECT_EQ(Ids(dataset.tokens(2).begin(), dataset.tokens(2).end()), (Ids{101, 0, 3, 102}));
  EXPECT_EQ(Ids(dataset.labels(0).begin(), dataset.labels(0).end()), (Ids{0, 2}));
  EXPECT_TRUE(dataset.labels(1).empty());
  EXPECT_EQ(Dataset().size(), 0);
}

TEST(Dataset, AppendsAnotherAndIsEmptyAgain) {
  Dataset first, second;
  first.append(std::vector<std::int32_t>{1, 2}, std::vector<std::int32_t>{7});
  second.append(std::vector<std::int32_t>{3}, {});
  second.append(std::vector<std::int32_t>{4, 5, 6}, std::vector<std::int32_t>{8, 9});
  first.cut = 1, second.cut = 2;
  first.append(second);
  first.append(Dataset{});
  EXPECT_EQ(first.token_ids, (std::vector<std::int32_t>{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(first.offsets, (std::vector<std::int64_t>{0, 2, 3, 6}));
  EXPECT_EQ(first.label_ids, (std::vector<std::int32_t>{7, 8, 9}));
  EXPECT_EQ(first.label_offsets, (std::vector<std::int64_t>{0, 1, 1, 3}));
  EXPECT_EQ(first.cut, 3);
  first.clear();
  EXPECT_EQ(first.size(), 0);
  EXPECT_EQ(first.cut, 0);
  first.append(second);
  EXPECT_EQ(first.token_ids, second.token_ids);
  EXPECT_EQ(first.label_ids, second.label_ids);
  EXPECT_EQ(first.offsets, second.offsets);
  EXPECT_EQ(first.label_offsets, second.label_offsets);
}

// The expected orders come from tests/data/expected_values.py, which shares no code with Ember.
TEST(Permutation, IsAFunctionOfSizeSeedAndEpoch) {
  EXPECT_EQ(permutation(10, 42, 0), (Indices{7, 2, 4, 8, 3, 9, 0, 5, 1, 6}));
  EXPECT_EQ(permutation(10, 42, 1), (Indices{5, 2, 9, 4, 3, 7, 6, 1, 8, 0}));
  EXPECT_EQ(permutation(10, std::uint64_t{7} << 32 | 42, 0), (Indices{1, 7, 3, 0, 8, 9, 2, 4, 6, 5}));
  EXPECT_EQ(permutation(0, 42, 0), Indices{});
  EXPECT_EQ(permutation(1, 42, 0), Indices{0});
  for (const std::int64_t size : {std::int64_t{-1}, std::int64_t{1} << 32})
    EXPECT_THROW(permutation(size, 42, 0), Error) << size;
}

TEST(Permutation, RefusesTheWordsThatWouldBiasIt) {
  // Epoch 4 is the first in which one word is refused.
  const Indices order = permutation(43410, 42, 4);
  std::uint64_t digest = 0xcbf29ce484222325;
  for (const std::int64_t i : order) digest = (digest ^ static_cast<std::uint64_t>(i)) * 0x100000001b3;
  EXPECT_EQ(digest, 0x179f4de43c198bc4u);
  EXPECT_EQ(std::set<std::int64_t>(order.begin(), order.end()).size(), order.size());
  EXPECT_EQ(*std::min_element(order.begin(), order.end()), 0);
  EXPECT_EQ(*std::max_element(order.begin(), order.end()), 43409);
}

TEST(Permutation, IsUniform) {
  constexpr int kDraws = 24000;
  std::map<Indices, int> counts;
  for (std::uint32_t epoch = 0; epoch < kDraws; ++epoch) ++counts[permutation(4, 7, epoch)];
  ASSERT_EQ(counts.size(), 24u);
  double chi_squared = 0;
  for (const auto& [order, count] : counts) chi_squared += (count - 1000.0) * (count - 1000.0) / 1000.0;
  EXPECT_LT(chi_squared, 49.7) << "23 degrees of freedom, p = 0.001";
}

class Tokenize : public ::testing::Test {
 protected:
  Tokenize() {
    std::ofstream(folder_ / "vocab.txt") << "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\ncat\n##s\nsat\n!\n";
    for (int i = 0; i < 1000; ++i) {
      Example example;
      for (int word = 0; word < i * 31 % 40; ++word)
        example.text += std::array{"The ", "cats ", "sat! ", "dog "}[(i + word) % 4];
      example.labels.assign(1, i % 28);
      examples_.push_back(example);
    }
  }
  TemporaryDirectory folder_;
  std::vector<Example> examples_;
};

TEST_F(Tokenize, DoesNotDependOnTheNumberOfThreads) {
  const Tokenizer tokenizer(folder_ / "vocab.txt");
  Dataset expected;
  for (const Example& example : examples_) {
    expected.append(tokenizer.encode(example.text, 32), example.labels);
    if (tokenizer.encode(example.text, 1000).size() > 32) ++expected.cut;
  }
  EXPECT_GT(expected.cut, 0);
  for (const int threads : {0, 1, 2, 3, 7, 64}) {
    const Dataset dataset = tokenize(examples_, tokenizer, 32, threads);
    EXPECT_EQ(dataset.token_ids, expected.token_ids) << threads;
    EXPECT_EQ(dataset.offsets, expected.offsets) << threads;
    EXPECT_EQ(dataset.label_ids, expected.label_ids) << threads;
    EXPECT_EQ(dataset.label_offsets, expected.label_offsets) << threads;
    EXPECT_EQ(dataset.cut, expected.cut) << threads;
  }
  EXPECT_EQ(tokenize({}, tokenizer, 32, 2).size(), 0);
}

TEST_F(Tokenize, PassesErrorsOnFromEveryThread) {
  const Tokenizer tokenizer(folder_ / "vocab.txt");
  for (const int threads : {1, 4}) EXPECT_THROW(tokenize(examples_, tokenizer, 1, threads), Error);
}

}  // namespace
}  // namespace ember
