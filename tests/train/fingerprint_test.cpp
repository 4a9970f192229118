#include "train/fingerprint.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string_view>

#include "tests/data/small_dataset.h"
#include "tests/train/tiny_run.h"

namespace ember {
namespace {

std::string digest_of_text(std::string_view text) {
  Digest digest;
  digest.add(text.data(), text.size());
  return digest.hex();
}

// The values that RFC 9923 gives for 64-bit FNV-1a.
TEST(Fingerprint, IsFnv1a) {
  EXPECT_EQ(digest_of_text(""), "cbf29ce484222325");
  EXPECT_EQ(digest_of_text("a"), "af63dc4c8601ec8c");
  EXPECT_EQ(digest_of_text("foobar"), "85944171f73967e8");
}

TEST(Fingerprint, OfDataIsOfEveryTokenLabelAndName) {
  const Labels names({"a", "b", "c"});
  const Dataset whole = testing::small_dataset();
  const TokenizerSource words{Vocabulary("[PAD]\nin\n"), true};
  const std::string before = data_fingerprint(words, names, whole, whole);
  const auto differs = [&](const auto& change) {
    Dataset changed = whole;
    change(changed);
    EXPECT_NE(data_fingerprint(words, names, changed, whole), before);
    EXPECT_NE(data_fingerprint(words, names, whole, changed), before);
  };
  differs([](Dataset& d) { ++d.token_ids[3]; });
  differs([](Dataset& d) { ++d.offsets[1]; });
  differs([](Dataset& d) { ++d.label_ids[1]; });
  differs([](Dataset& d) { --d.label_offsets[1]; });
  EXPECT_NE(data_fingerprint(words, Labels({"a", "b", "d"}), whole, whole), before);
  EXPECT_NE(data_fingerprint({Vocabulary("[PAD]\nof\n"), true}, names, whole, whole), before);
  EXPECT_NE(data_fingerprint({Vocabulary("[PAD]\nin\n"), false}, names, whole, whole), before);
  EXPECT_EQ(data_fingerprint(words, names, whole, whole), before);
  EXPECT_NE(data_fingerprint(words, Labels({"a", "bc", "d"}), whole, whole),
            data_fingerprint(words, Labels({"a", "b", "cd"}), whole, whole));
}

TEST(Fingerprint, OfAModelIsOfItsConfigurationAndEveryWeight) {
  BertConfig config = testing::tiny_config();
  config.vocabulary = 20'000;  // words of several pieces
  const auto kernels = make_cpu_kernels(Precision::fp32, 1);
  const BertWeights weights(config, *kernels);
  ASSERT_GT(weights.list.front().value.size(), 2 << 16);
  draw_all(weights, 0.02f, 1, *kernels);
  const std::string before = model_fingerprint(config, weights, *kernels);
  for (const int threads : {0, 2, 3}) EXPECT_EQ(model_fingerprint(config, weights, *kernels, threads), before);
  for (const Parameter& parameter : weights.list)
    for (const std::int64_t place : {std::int64_t{0}, parameter.value.size() / 2, parameter.value.size() - 1}) {
      float& value = parameter.value.f32()[place];
      const float was = value;
      value += 1;
      EXPECT_NE(model_fingerprint(config, weights, *kernels), before) << parameter.name << " " << place;
      value = was;
    }
  EXPECT_EQ(model_fingerprint(config, weights, *kernels), before);
  config.hidden_dropout += 0.25f;
  EXPECT_NE(model_fingerprint(config, weights, *kernels), before);
}

}  // namespace
}  // namespace ember
