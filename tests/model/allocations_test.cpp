// A text that is scored again allocates nothing: operator new counts, in this whole program.
#include <gtest/gtest.h>

#include <string_view>

#include "model/classifier.h"
#include "tests/count_allocations.h"
#include "tests/model/model_directory.h"

namespace ember {
namespace {

using testing::allocations;

TEST(Allocations, AreCounted) {
  const std::int64_t before = allocations;
  const auto memory = std::make_unique<std::vector<float>>(100);
  EXPECT_EQ(allocations - before, 2);
}

TEST(Allocations, ATextOfTheSameLengthNeedsNone) {
  const testing::ModelDirectory directory;
  for (const int threads : {1, 2}) {
    Classifier classifier(directory.path(), {.threads = threads});
    Scores scores;
    classifier.predict("in the end", scores);
    const Scores first = scores;
    const std::int64_t before = allocations;
    for (const std::string_view text : {"more the in", "in the end"}) classifier.predict(text, scores);
    EXPECT_EQ(allocations - before, 0) << threads << " threads";
    EXPECT_EQ(scores.logits, first.logits);
    EXPECT_EQ(scores.probabilities, first.probabilities);
  }
}

}  // namespace
}  // namespace ember
