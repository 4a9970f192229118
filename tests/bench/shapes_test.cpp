#include "bench/shapes.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "runtime/file.h"
#include "tests/support.h"

namespace ember {
namespace {

std::int64_t sum(const std::vector<std::int64_t>& lengths) {
  return std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0});
}

TEST(Shapes, Models) {
  EXPECT_EQ(model_shape("tinybert").hidden, 312);
  EXPECT_EQ(model_shape("minilm").head_dim(), 32);
  EXPECT_EQ(model_shape("minilm").ffn, 1536);
  EXPECT_EQ(model_shape("bert-base").head_dim(), 64);
  EXPECT_EQ(model_shape("bert-base").ffn, 3072);
  EXPECT_EQ(model_shape("bert-base").label_count(), 28);
  EXPECT_THROW(model_shape("bert"), Error);
}

// GoEmotions' training split has 19.17 tokens a text.
TEST(Shapes, LengthsHaveTheMeanOfTheDataSet) {
  for (const std::int64_t texts : {16, 64, 512, 4096})
    EXPECT_NEAR(static_cast<double>(sum(lengths_of_texts(texts))) / static_cast<double>(texts), 19.17, 0.6) << texts;
}

TEST(Shapes, BatchesHaveTheTokensAskedFor) {
  for (const std::int64_t tokens : {3, 20, 22, 308, 2048, 16384}) {
    const std::vector<std::int64_t> lengths = lengths_of_tokens(tokens);
    EXPECT_EQ(sum(lengths), tokens);
    for (const std::int64_t length : lengths) EXPECT_GE(length, 3);
  }
  EXPECT_EQ(lengths_of_tokens(308).size(), 16u);
}

TEST(Shapes, ThePeerOfAttentionHasTheLengthsOf308Tokens) {
  const std::string lengths = fmt::format("\nLENGTHS = ({})", fmt::join(lengths_of_tokens(308), ", "));
  EXPECT_CONTAINS(read_file(testing::source_dir() / "bench/peers/sdpa.py"), lengths);
}

TEST(Shapes, TextsAreThoseLengthsOfKnownWords) {
  const std::vector<std::int64_t> lengths = lengths_of_tokens(308);
  const Dataset texts = synthetic_texts(lengths, 30522, 28);
  ASSERT_EQ(texts.size(), 16);
  for (std::int64_t i = 0; i < texts.size(); ++i) EXPECT_EQ(texts.length(i), lengths[static_cast<std::size_t>(i)]) << i;
  for (const std::int32_t id : texts.token_ids) EXPECT_TRUE(id > 100 && id < 30522) << id;
  EXPECT_EQ(texts.label_ids.size(), 16u);
  // Words repeat as in GoEmotions, where 308 tokens have 172 different ones on average.
  const std::set<std::int32_t> unique(texts.token_ids.begin(), texts.token_ids.end());
  EXPECT_NEAR(static_cast<double>(unique.size()), 172, 20);
}

}  // namespace
}  // namespace ember
