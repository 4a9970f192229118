// Batches on the CPU: what is gathered, and that gathering allocates nothing.
#include "model/batches.h"

#include <limits>
#include <map>
#include <numeric>
#include <stdexcept>

#include "runtime/error.h"
#include "tests/count_allocations.h"
#include "tests/data/small_dataset.h"
#include "tests/support.h"

namespace ember {
namespace {

using testing::allocations;
using testing::error_of;
using testing::small_dataset;

using Ids = std::vector<std::int32_t>;
using Indices = std::vector<std::int64_t>;

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

BertConfig config_of(std::int64_t labels, std::int32_t padding_id = 0) {
  BertConfig config;
  config.labels = anonymous_labels(labels);
  config.pad_token_id = padding_id;
  return config;
}

Ids ids(const std::int32_t* from, std::int64_t count) {
  return {from, from + count};
}

const auto one_thread = make_cpu_kernels(Precision::fp32, 1);

TEST(Batches, LaySequencesEndToEnd) {
  const Dataset dataset = small_dataset();
  const BertConfig config = config_of(3);
  Batches batches(*one_thread, config, dataset);
  batches.reorder(Indices{2, 0, 1});
  const Batch batch = batches.next(3);
  EXPECT_EQ(batch.sequences, 3);
  EXPECT_EQ(batch.tokens, 11);
  EXPECT_EQ(batch.max_length, 5);
  EXPECT_EQ(ids(batch.token_ids, 11), (Ids{101, 0, 3, 102, 101, 7, 0, 7, 102, 101, 102}));
  EXPECT_EQ(ids(batch.cu_seqlens, 4), (Ids{0, 4, 9, 11}));
  ASSERT_EQ(batch.targets.rows, 3);
  EXPECT_EQ(std::vector<float>(batch.targets.f32(), batch.targets.f32() + 9),
            (std::vector<float>{0, 1, 0, 1, 0, 1, 0, 0, 0}));
  ASSERT_EQ(batch.unique, 4);
  EXPECT_EQ(ids(batch.unique_ids, 4), (Ids{3, 7, 101, 102})) << "the padding id has no gradient";
  EXPECT_EQ(ids(batch.unique_offsets, 5), (Ids{0, 1, 3, 6, 9}));
  EXPECT_EQ(ids(batch.occurrences, 9), (Ids{2, 5, 7, 0, 4, 9, 3, 8, 10}));
}

TEST(RowsWithin, AreAsManyAsFitAndOneAtLeast) {
  Dataset dataset;
  for (const std::int64_t length : {3, 5, 2, 9, 1, 1, 1})
    dataset.append(std::vector<std::int32_t>(static_cast<std::size_t>(length)), {});
  EXPECT_EQ(rows_within(dataset, 0, {10, 7}), 3);
  EXPECT_EQ(rows_within(dataset, 0, {9, 7}), 2);
  EXPECT_EQ(rows_within(dataset, 0, {10, 2}), 2);
  EXPECT_EQ(rows_within(dataset, 3, {8, 7}), 1);
  EXPECT_EQ(rows_within(dataset, 4, {100, 7}), 3);
  EXPECT_EQ(rows_within(dataset, 7, {100, 7}), 0);
}

TEST(Batches, FollowOneAnotherInTheOrderGiven) {
  const Dataset dataset = small_dataset();
  const BertConfig config = config_of(3);
  Batches batches(*one_thread, config, dataset);
  EXPECT_EQ(ids(batches.next(2).token_ids, 7), (Ids{101, 7, 0, 7, 102, 101, 102})) << "as the rows lie";
  EXPECT_EQ(batches.left(), 1);
  EXPECT_EQ(ids(batches.next(1).token_ids, 4), (Ids{101, 0, 3, 102}));
  batches.reorder(Indices{0, 2, 1}, 1);
  EXPECT_EQ(batches.left(), 2);
  EXPECT_EQ(ids(batches.next(1).token_ids, 4), (Ids{101, 0, 3, 102}));
  EXPECT_EQ(ids(batches.next(1).token_ids, 2), (Ids{101, 102}));
  batches.rewind();
  EXPECT_EQ(batches.next(3).tokens, 11);
  batches.take(dataset);
  EXPECT_EQ(ids(batches.next(2).token_ids, 7), (Ids{101, 7, 0, 7, 102, 101, 102}))
      << "an order does not outlive its data set";
}

TEST(Batches, TakeOtherPaddingIdsAndRepeatedSequences) {
  const Dataset dataset = small_dataset();
  const BertConfig config = config_of(4, 102);
  Batches batches(*one_thread, config, dataset);
  batches.reorder(Indices{1, 1});
  const Batch batch = batches.next(2);
  EXPECT_EQ(ids(batch.token_ids, 4), (Ids{101, 102, 101, 102}));
  ASSERT_EQ(batch.unique, 1);
  EXPECT_EQ(batch.unique_ids[0], 101);
  EXPECT_EQ(ids(batch.unique_offsets, 2), (Ids{0, 2}));
  EXPECT_EQ(ids(batch.occurrences, 2), (Ids{0, 2}));
  EXPECT_EQ(std::vector<float>(batch.targets.f32(), batch.targets.f32() + 8), std::vector<float>(8, 0.0f));
}

TEST(Batches, TakeNothingAtAll) {
  const Dataset dataset = small_dataset();
  const BertConfig config = config_of(3);
  Batches batches(*one_thread, config, dataset);
  batches.next(2);
  const Batch batch = batches.next(0);
  EXPECT_EQ(batch.sequences, 0);
  EXPECT_EQ(batch.tokens, 0);
  EXPECT_EQ(batch.max_length, 0);
  EXPECT_EQ(batch.unique, 0);
  EXPECT_EQ(batch.cu_seqlens[0], 0);
  EXPECT_EQ(batch.unique_offsets[0], 0);
  EXPECT_TRUE(batch.targets.empty());
}

TEST(Batches, WithoutTargetsTakeAnyLabel) {
  Dataset dataset;
  dataset.append(Ids{101, 102}, Ids{77});
  const BertConfig config = config_of(3);
  Batches batches(*one_thread, config, dataset, Batches::Targets::none);
  EXPECT_TRUE(batches.next(1).targets.empty());
}

TEST(Batches, ListEveryOccurrenceOnce) {
  const Dataset dataset = random_dataset(200, 128, 500);
  const BertConfig config = config_of(28);
  Batches batches(*one_thread, config, dataset);
  const Batch batch = batches.next(200);
  ASSERT_EQ(ids(batch.token_ids, batch.tokens), dataset.token_ids);
  std::map<std::int32_t, Ids> expected;
  for (std::size_t i = 0; i < dataset.token_ids.size(); ++i)
    if (dataset.token_ids[i] != 0) expected[dataset.token_ids[i]].push_back(static_cast<std::int32_t>(i));
  ASSERT_EQ(batch.unique, static_cast<std::int64_t>(expected.size()));
  std::int64_t u = 0;
  for (const auto& [id, places] : expected) {
    EXPECT_EQ(batch.unique_ids[u], id);
    const std::int32_t begin = batch.unique_offsets[u], end = batch.unique_offsets[u + 1];
    EXPECT_EQ(ids(batch.occurrences + begin, end - begin), places);
    ++u;
  }
}

// One of many tokens, then one of many sequences, each with arrays that it fills.
TEST(Batches, HaveRoomForWhateverComes) {
  constexpr std::int64_t kTokens = 128, kRows = 64;
  Ids rising(kTokens + 1);
  std::iota(rising.begin(), rising.end(), 0);
  Dataset dataset;
  dataset.append(std::span(rising).subspan(1), Ids{0});
  for (std::int64_t i = 0; i < kRows; ++i) dataset.append(Ids(1, 7), Ids{2});
  const BertConfig config = config_of(3);
  Batches batches(*one_thread, config, dataset);
  const Batch tokens = batches.next(1);
  EXPECT_EQ(ids(tokens.unique_ids, kTokens), Ids(rising.begin() + 1, rising.end()));
  EXPECT_EQ(ids(tokens.unique_offsets, kTokens + 1), rising);
  EXPECT_EQ(ids(tokens.occurrences, kTokens), Ids(rising.begin(), rising.end() - 1));
  const Batch rows = batches.next(kRows);
  EXPECT_EQ(ids(rows.cu_seqlens, kRows + 1), Ids(rising.begin(), rising.begin() + kRows + 1));
  EXPECT_EQ(ids(rows.unique_ids, 1), Ids{7});
  EXPECT_EQ(rows.targets.row(kRows - 1)[2], 1);

  batches.rewind();
  const std::int32_t* const place = batches.next(1).token_ids;
  EXPECT_EQ(batches.next(kRows).token_ids, place) << "there is room for both";
  for (const BatchShape& larger : {BatchShape{1, 1, kTokens + 1, kTokens + 1}, {kRows + 1, kRows + 1, kTokens, 2}})
    EXPECT_THROW(batches.gather(larger), std::logic_error);
}

TEST(Batches, AllocateNothingOnceWarm) {
  // The first batch is the largest but has few different ids; the later ones have many.
  Dataset dataset;
  for (int i = 0; i < 16; ++i) dataset.append(Ids(128, 5), Ids{1});
  const Dataset varied = random_dataset(64, 120, 30000);
  for (std::int64_t i = 0; i < varied.size(); ++i) dataset.append(varied.tokens(i), varied.labels(i));
  Indices order(static_cast<std::size_t>(dataset.size()));
  std::iota(order.begin(), order.end(), 0);
  const BertConfig config = config_of(28);
  Batches batches(*one_thread, config, dataset);
  batches.reorder(order);
  batches.next(16);
  const std::int64_t before = allocations;
  for (int step = 0; step < 4; ++step) EXPECT_GT(batches.next(16 - step).unique, 200);
  batches.take(dataset);
  batches.reorder(order);
  batches.next(16);
  EXPECT_EQ(allocations, before);
}

TEST(Batches, RefuseWhatIsOutOfRange) {
  const Dataset dataset = small_dataset();
  const BertConfig three = config_of(3), two = config_of(2);
  Batches batches(*one_thread, three, dataset);
  EXPECT_EQ(error_of([&] { batches.reorder(Indices{0, 3}); }), "row 3 is not in a data set of 3");
  EXPECT_EQ(error_of([&] { batches.reorder(Indices{-1}); }), "row -1 is not in a data set of 3");
  EXPECT_EQ(error_of([&] { Batches(*one_thread, two, dataset); }), "label 2 of row 0 is out of range, expected 0 to 1");
  batches.take(dataset);
  EXPECT_EQ(error_of([&] { batches.next(4); }), "a batch of 4 rows, but 3 are left");
  Dataset negative, large;
  negative.append(Ids{101}, Ids{-1});
  EXPECT_EQ(error_of([&] { batches.take(negative); }), "label -1 of row 0 is out of range, expected 0 to 2");
  large.offsets = {0, std::numeric_limits<std::int32_t>::max()}, large.label_offsets = {0, 0};
  batches.take(large);
  EXPECT_EQ(error_of([&] { batches.next(1); }), "a batch of 2147483647 tokens and more is too large");
}

}  // namespace
}  // namespace ember
