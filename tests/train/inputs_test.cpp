#include "train/inputs.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace ember {
namespace {

using Notes = std::vector<std::string>;

TEST(NotesOnTheModel, NameWhatWasDrawnUnlessItIsAllOfIt) {
  LoadReport report;
  EXPECT_EQ(notes_on(report), Notes());
  report.initialised = {"pooler.weight", "pooler.bias", "classifier.weight", "classifier.bias"};
  EXPECT_EQ(notes_on(report), Notes{"drawn afresh: pooler.weight, pooler.bias, classifier.weight, classifier.bias"});
  report.initialised.push_back("embeddings");
  EXPECT_EQ(notes_on(report), Notes{"drawn afresh: all 5 weights"});
}

TEST(NotesOnTheModel, CountWhatIsOfNoUseAndNameTheFirst) {
  LoadReport report;
  report.ignored = {"cls.bias\x1b", "fit.weight"};
  EXPECT_EQ(notes_on(report), Notes{"2 tensors of the model file are of no use here, such as cls.bias\\x1b"});
  report.ignored.pop_back();
  EXPECT_EQ(notes_on(report), Notes{"cls.bias\\x1b of the model file is of no use here"});
}

}  // namespace
}  // namespace ember
