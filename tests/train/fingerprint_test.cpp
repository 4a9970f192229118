#include "train/fingerprint.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string_view>

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

TEST(Fingerprint, OfAModelIsOfItsConfigurationAndEveryWeight) {
  BertConfig config = testing::tiny_config();
  config.vocabulary = 20'000;  // words of several pieces
  const auto kernels = make_cpu_kernels(Precision::fp32, 1);
  const BertWeights weights(config, *kernels);
  ASSERT_GT(weights.list.front().value.size(), 2 << 16);
  for (std::size_t i = 0; i < weights.list.size(); ++i)
    draw(weights.list[i], 0.02f, 1, static_cast<std::uint32_t>(i), weights.list[i].value.f32());
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
