#include "data/dataset.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <fstream>
#include <functional>
#include <map>
#include <new>
#include <numeric>
#include <set>

#include "runtime/error.h"
#include "tests/support.h"

namespace {
std::atomic<std::int64_t> allocations{0};
}  // namespace

// Not inlined: g++ takes an inlined pair of malloc and free for a mismatch.
[[gnu::noinline]] void* operator new(std::size_t bytes) {
  ++allocations;
  if (void* memory = std::malloc(bytes == 0 ? 1 : bytes)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}

namespace ember {
namespace {

using testing::TemporaryDirectory;
using Ids = std::vector<std::int32_t>;
using Indices = std::vector<std::int64_t>;

Dataset small_dataset() {
  Dataset dataset;
  dataset.append(Ids{101, 7, 0, 7, 102}, Ids{0, 2});
  dataset.append(Ids{101, 102}, Ids{});
  dataset.append(Ids{101, 0, 3, 102}, Ids{1});
  return dataset;
}

// `count` sequences of lengths 1 to max_length with ids below `vocabulary`, some of them padding (0).
Dataset random_dataset(std::int64_t count, std::int64_t max_length, std::int64_t vocabulary) {
  Dataset dataset;
  std::uint64_t state = 1;
  const auto below = [&](std::int64_t n) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<std::int64_t>((state >> 33) % static_cast<std::uint64_t>(n));
  };
  for (std::int64_t i = 0; i < count; ++i) {
    Ids tokens(static_cast<std::size_t>(1 + below(max_length)));
    for (std::int32_t& token : tokens) token = static_cast<std::int32_t>(below(vocabulary));
    dataset.append(tokens, Ids{static_cast<std::int32_t>(below(28))});
  }
  return dataset;
}

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

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

TEST(Pack, LaysSequencesEndToEnd) {
  PackedBatch batch;
  EXPECT_EQ(batch.sequences(), 0);
  pack(small_dataset(), Indices{2, 0, 1}, 3, 0, batch);
  EXPECT_EQ(batch.sequences(), 3);
  EXPECT_EQ(batch.tokens(), 11);
  EXPECT_EQ(batch.max_length, 5);
  EXPECT_EQ(batch.token_ids, (Ids{101, 0, 3, 102, 101, 7, 0, 7, 102, 101, 102}));
  EXPECT_EQ(batch.cu_seqlens, (Ids{0, 4, 9, 11}));
  EXPECT_EQ(batch.targets, (std::vector<float>{0, 1, 0, 1, 0, 1, 0, 0, 0}));
  EXPECT_EQ(batch.unique_ids, (Ids{3, 7, 101, 102})) << "the padding id has no gradient";
  EXPECT_EQ(batch.unique_offsets, (Ids{0, 1, 3, 6, 9}));
  EXPECT_EQ(batch.occurrences, (Ids{2, 5, 7, 0, 4, 9, 3, 8, 10}));
}

TEST(Pack, TakesOtherPaddingIdsAndRepeatedSequences) {
  PackedBatch batch;
  pack(small_dataset(), Indices{1, 1}, 4, 102, batch);
  EXPECT_EQ(batch.token_ids, (Ids{101, 102, 101, 102}));
  EXPECT_EQ(batch.unique_ids, (Ids{101}));
  EXPECT_EQ(batch.unique_offsets, (Ids{0, 2}));
  EXPECT_EQ(batch.occurrences, (Ids{0, 2}));
  EXPECT_EQ(batch.targets, std::vector<float>(8, 0.0f));
}

TEST(Pack, TakesNothingAtAll) {
  PackedBatch batch;
  pack(small_dataset(), Indices{0, 1}, 3, 0, batch);
  pack(small_dataset(), Indices{}, 3, 0, batch);
  EXPECT_EQ(batch.sequences(), 0);
  EXPECT_EQ(batch.tokens(), 0);
  EXPECT_EQ(batch.max_length, 0);
  EXPECT_EQ(batch.cu_seqlens, Ids{0});
  EXPECT_EQ(batch.unique_offsets, Ids{0});
  EXPECT_TRUE(batch.unique_ids.empty() && batch.occurrences.empty() && batch.targets.empty());
}

TEST(Pack, ListsEveryOccurrenceOnce) {
  const Dataset dataset = random_dataset(200, 128, 500);
  PackedBatch batch;
  Indices indices(200);
  std::iota(indices.begin(), indices.end(), 0);
  pack(dataset, indices, 28, 0, batch);
  EXPECT_EQ(batch.token_ids, dataset.token_ids);
  std::map<std::int32_t, Ids> expected;
  for (std::size_t i = 0; i < batch.token_ids.size(); ++i)
    if (batch.token_ids[i] != 0) expected[batch.token_ids[i]].push_back(static_cast<std::int32_t>(i));
  ASSERT_EQ(batch.unique_ids.size(), expected.size());
  ASSERT_EQ(batch.unique_offsets.size(), expected.size() + 1);
  std::size_t u = 0;
  for (const auto& [id, positions] : expected) {
    EXPECT_EQ(batch.unique_ids[u], id);
    const auto* first = batch.occurrences.data();
    EXPECT_EQ(Ids(first + batch.unique_offsets[u], first + batch.unique_offsets[u + 1]), positions);
    ++u;
  }
  EXPECT_EQ(batch.unique_offsets.back(), static_cast<std::int32_t>(batch.occurrences.size()));
}

TEST(Pack, AllocatesNothingOnceWarm) {
  // The first batch is the largest but has few different ids; the later ones have many.
  Dataset dataset;
  for (int i = 0; i < 16; ++i) dataset.append(Ids(128, 5), Ids{1});
  const Dataset varied = random_dataset(64, 120, 30000);
  for (std::int64_t i = 0; i < varied.size(); ++i) dataset.append(varied.tokens(i), varied.labels(i));
  Indices indices(16);
  std::iota(indices.begin(), indices.end(), 0);
  PackedBatch batch;
  pack(dataset, indices, 28, 0, batch);
  const std::int64_t before = allocations;
  for (int step = 0; step < 4; ++step) {
    for (std::int64_t& i : indices) i += 16;
    pack(dataset, std::span(indices).first(static_cast<std::size_t>(16 - step)), 28, 0, batch);
  }
  EXPECT_EQ(allocations, before);
  EXPECT_GT(batch.unique_ids.size(), 200u);
}

TEST(Pack, RefusesWhatIsOutOfRange) {
  const Dataset dataset = small_dataset();
  PackedBatch batch;
  EXPECT_EQ(error_of([&] { pack(dataset, Indices{0, 3}, 3, 0, batch); }), "sequence 3 is not in a data set of 3");
  EXPECT_EQ(error_of([&] { pack(dataset, Indices{-1}, 3, 0, batch); }), "sequence -1 is not in a data set of 3");
  EXPECT_EQ(error_of([&] {
              pack(dataset, Indices{1, 0}, 2, 0, batch);
            }),
            "label 2 of sequence 0 is out of range, expected 0 to 1");
}

// The expected orders come from tests/data/expected_values.py, which shares no code with Ember.
TEST(Permutation, IsAFunctionOfSizeSeedAndEpoch) {
  EXPECT_EQ(permutation(10, 42, 0), (Indices{7, 2, 4, 8, 3, 9, 0, 5, 1, 6}));
  EXPECT_EQ(permutation(10, 42, 1), (Indices{5, 2, 9, 4, 3, 7, 6, 1, 8, 0}));
  EXPECT_EQ(permutation(10, std::uint64_t{7} << 32 | 42, 0), (Indices{1, 7, 3, 0, 8, 9, 2, 4, 6, 5}));
  EXPECT_EQ(permutation(0, 42, 0), Indices{});
  EXPECT_EQ(permutation(1, 42, 0), Indices{0});
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
  for (const Example& example : examples_) expected.append(tokenizer.encode(example.text, 32), example.labels);
  for (const int threads : {0, 1, 2, 3, 7, 64}) {
    const Dataset dataset = tokenize(examples_, tokenizer, 32, threads);
    EXPECT_EQ(dataset.token_ids, expected.token_ids) << threads;
    EXPECT_EQ(dataset.offsets, expected.offsets) << threads;
    EXPECT_EQ(dataset.label_ids, expected.label_ids) << threads;
    EXPECT_EQ(dataset.label_offsets, expected.label_offsets) << threads;
  }
  EXPECT_EQ(tokenize({}, tokenizer, 32, 2).size(), 0);
}

TEST_F(Tokenize, PassesErrorsOnFromEveryThread) {
  const Tokenizer tokenizer(folder_ / "vocab.txt");
  for (const int threads : {1, 4}) EXPECT_THROW(tokenize(examples_, tokenizer, 1, threads), Error);
}

}  // namespace
}  // namespace ember
