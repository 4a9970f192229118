// Kernels::gather_batch on the device against those of the CPU, with a filling and without.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <stdexcept>

#include "model/batches.h"
#include "tests/cuda/cuda_support.h"

namespace ember {
namespace {

constexpr std::int32_t kPadding = 4;
constexpr std::int64_t kLabels = 5, kVocabulary = 60;

// Texts of 1 to `longest` tokens, a fifth of the rows without a label, and with padding in between.
Dataset texts(std::int64_t count, std::int64_t longest) {
  Dataset dataset;
  for (std::int64_t row = 0; row < count; ++row) {
    const auto draw = [&](std::uint64_t i) { return random_block(9, 0, static_cast<std::uint32_t>(row), i)[0]; };
    std::vector<std::int32_t> tokens(1 + draw(0) % static_cast<std::uint64_t>(longest)), labels;
    for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<std::int32_t>(draw(i + 1) % kVocabulary);
    for (std::int32_t k = 0; k < kLabels; ++k)
      if (row % 5 != 0 && (draw(1000) >> k) % 3 == 0) labels.push_back(k);
    dataset.append(tokens, labels);
  }
  return dataset;
}

struct HostBatch {
  std::vector<std::int32_t> token_ids, cu_seqlens, unique_ids, unique_offsets, occurrences;
  std::vector<float> targets;
};

template <typename T>
std::vector<T> host(Kernels& kernels, const T* from, std::int64_t count) {
  std::vector<T> values(static_cast<std::size_t>(count));
  kernels.download(values.data(), from, values.size() * sizeof(T));
  return values;
}

HostBatch host(Kernels& kernels, const Batch& batch) {
  HostBatch copy{host(kernels, batch.token_ids, batch.tokens),
                 host(kernels, batch.cu_seqlens, batch.sequences + 1),
                 host(kernels, batch.unique_ids, batch.unique),
                 host(kernels, batch.unique_offsets, batch.unique + 1),
                 {},
                 {}};
  copy.occurrences = host(kernels, batch.occurrences, copy.unique_offsets.back());
  if (!batch.targets.empty()) copy.targets = host(kernels, batch.targets.f32(), batch.targets.size());
  return copy;
}

// The CPU's batch, whose `unique` is the number of ids, with the ends that a bound of `bound` ids has.
HostBatch bounded(HostBatch batch, std::int64_t bound) {
  batch.unique_ids.resize(static_cast<std::size_t>(bound), -1);
  batch.unique_offsets.resize(static_cast<std::size_t>(bound) + 1, batch.unique_offsets.back());
  return batch;
}

void expect_equal(const HostBatch& actual, const HostBatch& expected) {
  EXPECT_EQ(actual.token_ids, expected.token_ids);
  EXPECT_EQ(actual.cu_seqlens, expected.cu_seqlens);
  EXPECT_EQ(actual.unique_ids, expected.unique_ids);
  EXPECT_EQ(actual.unique_offsets, expected.unique_offsets);
  EXPECT_EQ(actual.occurrences, expected.occurrences);
  EXPECT_EQ(actual.targets, expected.targets);
}

struct GatherBatchCase {
  std::int64_t rows, batch, longest;
};

class GatherBatch : public ::testing::TestWithParam<GatherBatchCase> {
 protected:
  GatherBatch() {
    config.positions = GetParam().longest, config.labels = anonymous_labels(kLabels), config.pad_token_id = kPadding;
    order.resize(static_cast<std::size_t>(dataset.size()));
    std::iota(order.rbegin(), order.rend(), 0);
  }
  BertConfig config;
  const Dataset dataset = texts(GetParam().rows, GetParam().longest);
  std::vector<std::int64_t> order;
  const std::unique_ptr<Kernels> cpu = make_cpu_kernels(Precision::fp32, 1);
};

TEST_P(GatherBatch, AreThoseOfTheCpu) {
  Batches ours(testing::device(), config, dataset), theirs(*cpu, config, dataset);
  for (const bool ordered : {false, true}) {
    if (ordered) ours.reorder(order), theirs.reorder(order);
    while (ours.left() > 0) {
      const std::int64_t count = std::min(GetParam().batch, ours.left());
      const BatchShape shape = ours.exact_shape(count);
      ours.reserve({shape.tokens, shape.sequences});
      const Batch batch = ours.gather(shape);
      ours.advance(count);
      const HostBatch expected = host(*cpu, theirs.next(count));
      EXPECT_EQ(batch.unique, batch.tokens);
      expect_equal(host(testing::device(), batch), bounded(expected, batch.unique));
    }
  }
}

TEST_P(GatherBatch, AFillingOfPaddingFollowsWithoutATarget) {
  Batches ours(testing::device(), config, dataset), theirs(*cpu, config, dataset);
  ours.reorder(order), theirs.reorder(order);
  while (ours.left() > 0) {
    const std::int64_t count = std::min(GetParam().batch, ours.left()), exact = ours.exact_shape(count).tokens;
    const Batch batch = ours.next(count);
    EXPECT_EQ(batch.sequences, count + 1);
    EXPECT_GT(batch.tokens, exact);
    EXPECT_LE(batch.tokens, exact + std::min<std::int64_t>(32, config.positions));
    EXPECT_LE(batch.max_length, config.positions);
    EXPECT_EQ(batch.tokens % std::min<std::int64_t>(32, config.positions), 0);
    HostBatch expected = bounded(host(*cpu, theirs.next(count)), batch.unique);
    expected.token_ids.resize(static_cast<std::size_t>(batch.tokens), kPadding);
    expected.cu_seqlens.push_back(static_cast<std::int32_t>(batch.tokens));
    expect_equal(host(testing::device(), batch), expected);
  }
}

// The last has batches of more rows than a block has threads; the one before it as many tokens as one block orders.
INSTANTIATE_TEST_SUITE_P(Sizes, GatherBatch,
                         ::testing::Values(GatherBatchCase{1, 1, 1}, GatherBatchCase{5, 2, 3},
                                           GatherBatchCase{70, 16, 31}, GatherBatchCase{300, 300, 9},
                                           GatherBatchCase{24, 8, 128}, GatherBatchCase{40, 40, 70},
                                           GatherBatchCase{1024, 1024, 1}, GatherBatchCase{1100, 600, 3}),
                         [](const auto& tested) {
                           return std::to_string(tested.param.rows) + "_rows_by_" + std::to_string(tested.param.batch) +
                                  "_to_" + std::to_string(tested.param.longest);
                         });

// Nothing but padding has no ids at all; and no rows make a batch of nothing.
TEST(GatherBatchAlone, OfPaddingAndOfNothing) {
  BertConfig config;
  config.labels = anonymous_labels(kLabels), config.pad_token_id = kPadding;
  Dataset dataset;
  dataset.append(std::vector<std::int32_t>(3, kPadding), std::vector<std::int32_t>{});
  Batches batches(testing::device(), config, dataset, Batches::Targets::none);
  const Batch batch = batches.next(1);
  EXPECT_TRUE(batch.targets.empty());
  const HostBatch padding = host(testing::device(), batch);
  EXPECT_EQ(padding.unique_ids, std::vector<std::int32_t>(32, -1));
  EXPECT_EQ(padding.unique_offsets, std::vector<std::int32_t>(33, 0));
  const Batch nothing = batches.gather(batches.exact_shape(0));
  EXPECT_EQ(host(testing::device(), nothing).cu_seqlens, std::vector<std::int32_t>{0});
}

// Beside the rows; refused before any memory is touched.
TEST(GatherBatchAlone, OneFillingAtMost) {
  for (const std::int64_t sequences : {2, 5}) {
    const BatchShape shape{.rows = 3, .sequences = sequences, .tokens = 64, .max_length = 32};
    EXPECT_THROW(testing::device().gather_batch({}, {}, shape, kPadding), std::logic_error) << sequences;
  }
}

}  // namespace
}  // namespace ember
