#include "model/tokenizer_files.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <string>

#include "runtime/file.h"
#include "tests/model/model_directory.h"
#include "tests/support.h"

namespace ember {
namespace {

using testing::error_of;
using testing::put;
using testing::TemporaryDirectory;

// A folder with one of the files in it; what reading it says, without the folder's name, and empty if all is well.
class Folder {
 public:
  bool lower_case(const std::string& content, const char* name = "tokenizer_config.json") const {
    put(folder_ / name, content);
    return read_lower_case(folder_.path());
  }
  std::string complaint(const std::string& content, const char* name = "tokenizer_config.json") const {
    const std::string message = error_of([&] { static_cast<void>(lower_case(content, name)); });
    const std::string start = (folder_ / "").string();
    return message.starts_with(start) ? message.substr(start.size()) : message;
  }

 private:
  TemporaryDirectory folder_;
};

TEST(TokenizerFiles, LowerCaseIsWhatTheConfigSays) {
  EXPECT_TRUE(read_lower_case(TemporaryDirectory().path()));
  const Folder folder;
  EXPECT_TRUE(folder.lower_case("{}"));
  EXPECT_TRUE(folder.lower_case(R"({"do_lower_case": true, "strip_accents": null, "tokenize_chinese_chars": true})"));
  EXPECT_FALSE(folder.lower_case(R"({"do_lower_case": false, "strip_accents": false})"));
  EXPECT_EQ(folder.complaint(R"({"do_lower_case": "yes"})"),
            "tokenizer_config.json: do_lower_case must be true or false");
  EXPECT_EQ(folder.complaint(R"({"do_lower_case": true, "strip_accents": false})"),
            "tokenizer_config.json: strip_accents is false, but Ember does as do_lower_case says");
  EXPECT_NE(folder.complaint(R"({"do_lower_case": false, "strip_accents": true})"), "");
  EXPECT_NE(folder.complaint(R"({"tokenize_chinese_chars": false})"), "");
  EXPECT_NE(folder.complaint("{"), "");
}

TEST(TokenizerFiles, OtherTokenizersAreRefused) {
  for (
      const char* same :
      {R"("tokenizer_class": "PreTrainedTokenizerFast", "additional_special_tokens": [], "extra_special_tokens": {})",
       R"("tokenizer_class": "BertTokenizerFast", "do_basic_tokenize": true, "never_split": null)",
       R"("tokenizer_class": null, "never_split": [], "unk_token": "[UNK]")",
       R"("cls_token": {"__type": "AddedToken", "content": "[CLS]"}, "added_tokens_decoder": {"3": {"content": "[SEP]"}})"})
    EXPECT_EQ(Folder().complaint(fmt::format("{{{}}}", same)), "") << same;
  for (const char* other :
       {R"("tokenizer_class": "BertJapaneseTokenizer")", R"("do_basic_tokenize": false)", R"("never_split": ["in"])",
        R"("unk_token": "<unk>")", R"("cls_token": {"content": "<s>"})",
        R"("added_tokens_decoder": {"5": {"content": "[NAME]"}})", R"("additional_special_tokens": ["[NAME]"])",
        R"("extra_special_tokens": {"name": "[NAME]"})"})
    EXPECT_NE(Folder().complaint(fmt::format("{{{}}}", other)), "") << other;
}

TEST(TokenizerFiles, TokensBesideTheVocabularyAreRefusedWhereverTheyStand) {
  const char* map = "special_tokens_map.json";
  EXPECT_EQ(Folder().complaint(R"({"cls_token": "[CLS]", "mask_token": {"content": "[MASK]"}})", map), "");
  EXPECT_EQ(Folder().complaint(R"({"cls_token": "<s>"})", map),
            "special_tokens_map.json: cls_token is <s>, but Ember takes [CLS]");
  EXPECT_EQ(Folder().complaint(R"({"additional_special_tokens": ["[MASK]", {"content": "[NAME]"}]})", map),
            "special_tokens_map.json: additional_special_tokens has [NAME], which Ember does not know");

  EXPECT_EQ(Folder().complaint(R"({"[MASK]": 4})", "added_tokens.json"), "");
  EXPECT_EQ(Folder().complaint(R"({"[NAME]": 9})", "added_tokens.json"),
            "added_tokens.json: has [NAME], which Ember does not know");

  const auto fast = [](const std::string& tokens) {
    return Folder().complaint(
        R"({"version": "1.0", "normalizer": {"content": "x"}, "added_tokens": [)" + tokens +
            R"(], "model": {"type": "WordPiece", "vocab": {"type": 1, "in": 2}, "a": [{"content": "y"}]}})",
        "tokenizer.json");
  };
  EXPECT_EQ(fast(""), "");
  EXPECT_EQ(fast(R"({"id": 3, "content": "[SEP]", "special": true})"), "");
  EXPECT_EQ(fast(R"({"id": 3, "content": "[SEP]"}, {"id": 9, "content": "[NAME]", "special": false})"),
            "tokenizer.json: added_tokens has [NAME], which Ember does not know");
  EXPECT_TRUE(Folder().complaint("{\"added_tokens\": [", "tokenizer.json").starts_with("tokenizer.json: not JSON: "));
  EXPECT_EQ(Folder().complaint(std::string("{}\0{", 4), "tokenizer.json"),
            "tokenizer.json: not JSON: it holds a NUL byte");
  EXPECT_EQ(Folder().complaint(R"({"model": {"unk_token": "x", "type": "BPE"}})", "tokenizer.json"),
            "tokenizer.json: its model is BPE, but Ember's is WordPiece");
}

// The JSON library's trees of such objects took it hours.
TEST(TokenizerFiles, ALargeFileTakesNoMoreThanItsLength) {
  std::string objects = "{}";
  for (int i = 0; i < (1 << 20); ++i) objects += ",{}";
  EXPECT_EQ(Folder().complaint("{\"added_tokens\": [" + objects + "]}", "tokenizer.json"), "");
}

}  // namespace
}  // namespace ember
