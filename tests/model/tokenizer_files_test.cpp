#include "model/tokenizer_files.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "runtime/file.h"
#include "tests/model/model_directory.h"
#include "tests/support.h"

namespace ember {
namespace {

using testing::error_of;
using testing::put;
using testing::TemporaryDirectory;

// A folder with a vocabulary and one more of the files; what reading it says, without the folder's name, and empty if
// all is well.
class Folder {
 public:
  Folder() {
    put(folder_ / "vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nin\n");
    put(folder_ / "config.json", "{}");
  }
  const testing::TemporaryDirectory& path() const { return folder_; }
  TokenizerSource read() const { return read_tokenizer(folder_ / "vocab.txt", folder_ / "config.json"); }
  bool lower_case(const std::string& content, const char* name = "tokenizer_config.json") const {
    put(folder_ / name, content);
    return read().lower_case;
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
  const Folder folder;
  EXPECT_TRUE(folder.read().lower_case);
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

TEST(TokenizerFiles, TheMostTokensAreWhatTheConfigSays) {
  const Folder folder;
  const auto most = [&](const std::string& length) {
    put(folder.path() / "tokenizer_config.json", fmt::format(R"({{"model_max_length": {}}})", length));
    return folder.read().max_length;
  };
  EXPECT_EQ(folder.read().max_length, std::nullopt);
  EXPECT_EQ(most("null"), std::nullopt);
  EXPECT_EQ(most("2"), 2);
  EXPECT_EQ(most("128.0"), 128);
  EXPECT_EQ(most("1000000000000000019884624838656"), std::nullopt) << "transformers' way to say that it has no limit";
  for (const char* wrong : {"1", "0", "-1", "2.5", "\"128\"", "true", "[128]"})
    EXPECT_EQ(
        folder.complaint(fmt::format(R"({{"model_max_length": {}}})", wrong)),
        fmt::format("tokenizer_config.json: model_max_length is {}; a whole number from 2 on was expected", wrong));
}

// That of transformers 2, which later ones read where theirs is missing.
TEST(TokenizerFiles, TheMostTokensMayHaveTheirOlderName) {
  const Folder folder;
  const auto most = [&](const char* content) {
    put(folder.path() / "tokenizer_config.json", content);
    return folder.read().max_length;
  };
  EXPECT_EQ(most(R"({"max_len": 128})"), 128);
  EXPECT_EQ(most(R"({"max_len": 128, "model_max_length": 64})"), 64);
  EXPECT_EQ(most(R"({"max_len": 128, "model_max_length": null})"), std::nullopt);
  EXPECT_EQ(most(R"({"max_len": null})"), std::nullopt);
  EXPECT_EQ(folder.complaint(R"({"max_len": 1})"),
            "tokenizer_config.json: max_len is 1; a whole number from 2 on was expected");
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
        R"("extra_special_tokens": {"name": "[NAME]"})", R"("mask_token": null)", R"("truncation_side": "left")",
        R"("model_specific_special_tokens": {"name": "[NAME]"})", R"("split_special_tokens": true)",
        R"("word_tokenizer_type": "mecab")", R"("bos_token": "<s>")", R"("eos_token": "</s>")",
        R"("mask_token": {"content": "[MASK]", "normalized": true})",
        R"("added_tokens_decoder": {"4": {"content": "[MASK]", "single_word": true}})"})
    EXPECT_NE(Folder().complaint(fmt::format("{{{}}}", other)), "") << other;
}

TEST(TokenizerFiles, ATokenThatTheVocabularyLacksMayBeNull) {
  const Folder folder;
  const std::string null = R"({"mask_token": null})";
  EXPECT_EQ(folder.complaint(null), "tokenizer_config.json: mask_token is null, but Ember takes [MASK]");
  put(folder.path() / "vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\nmask\nin\n");
  for (const char* file : {"tokenizer_config.json", "special_tokens_map.json"})
    for (const std::string& content : {null, std::string(R"({"mask_token": "[MASK]"})"), std::string("{}")})
      EXPECT_EQ(folder.complaint(content, file), "") << file << content;
  EXPECT_NE(folder.complaint(R"({"cls_token": null})"), "");
}

TEST(TokenizerFiles, ASavedModelNamesNoMaskThatItsVocabularyLacks) {
  const Folder folder;
  const BertConfig config = testing::small();
  for (const bool has_mask : {true, false}) {
    const std::string text = "[PAD]\n[UNK]\n[CLS]\n[SEP]\nin\nthe\nend\nmore\n";
    const TokenizerSource tokenizer{Vocabulary(text + (has_mask ? "[MASK]\n" : "mask\n"))};
    save_surroundings(folder.path().path(), config, tokenizer, DType::f32,
                      [](const auto& path, std::string_view content) { put(path, std::string(content)); });
    for (const char* file : {"special_tokens_map.json", "tokenizer_config.json"}) {
      const auto saved = nlohmann::json::parse(read_file(folder.path() / file));
      EXPECT_EQ(saved.at("mask_token"), has_mask ? nlohmann::json("[MASK]") : nlohmann::json()) << file;
      EXPECT_EQ(saved.at("unk_token"), "[UNK]") << file;
    }
    EXPECT_EQ(folder.read().vocabulary.text(), tokenizer.vocabulary.text());
  }
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
}

// tokenizer.json with those lists of tokens and that model's vocabulary.
std::string fast(const std::string& added, const std::string& more = "") {
  return R"({"version": "1.0", "truncation": null, "normalizer": {"type": "BertNormalizer", "lowercase": false},
    "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": {"type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
    {"SpecialToken": {"id": "[SEP]", "type_id": 0}}], "pair": [{"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]}, "[SEP]": {"ids": [3]}},
    "a": [{"content": "x", "normalized": true}]}, "added_tokens": [)" +
         added + R"(], "model": {"type": "WordPiece", "continuing_subword_prefix": "##", "vocab":
    {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "in": 5, "[MASK]": 4)" +
         more + "}}}";
}
constexpr const char* kAllAdded =
    R"({"id": 0, "content": "[PAD]"}, {"content": "[UNK]"}, {"content": "[CLS]"}, {"content": "[SEP]"},
    {"content": "[MASK]", "normalized": false, "special": true})";

TEST(TokenizerFiles, TokenizerJsonMayStandBesideVocabTxt) {
  const auto complaint = [](const std::string& content) { return Folder().complaint(content, "tokenizer.json"); };
  EXPECT_EQ(complaint(fast("")), "");
  EXPECT_EQ(complaint(fast(kAllAdded)), "");
  EXPECT_EQ(complaint(fast(R"({"id": 3, "content": "[SEP]"}, {"id": 9, "content": "[NAME]", "special": false})")),
            "tokenizer.json: added_tokens has [NAME], which Ember does not know");
  EXPECT_EQ(complaint(fast(R"({"content": "[MASK]", "normalized": true})")),
            "tokenizer.json: a token of added_tokens is normalized, but Ember looks for tokens as they stand");
  EXPECT_EQ(complaint(fast(R"({"content": "[MASK]", "single_word": true})")),
            "tokenizer.json: a token of added_tokens is single_word, but Ember looks for tokens as they stand");
  EXPECT_EQ(complaint(fast("", R"(, "on": 6)")).substr(0, 46), "tokenizer.json: token 6 of model.vocab is on, ");
  EXPECT_EQ(complaint(fast("", R"(, "on": 7)")),
            "tokenizer.json: token on of model.vocab has id 7, each from 0 to 6 was expected once");
  EXPECT_EQ(complaint(fast("", R"(, "on": 5)")),
            "tokenizer.json: token on of model.vocab has id 5, each from 0 to 6 was expected once");
  EXPECT_NE(complaint(fast("", R"(, "on ": 6)")), "");
  EXPECT_TRUE(complaint("{\"added_tokens\": [").starts_with("tokenizer.json: not JSON: "));
  EXPECT_EQ(complaint(std::string("{}\0{", 4)), "tokenizer.json: not JSON: it holds a NUL byte");
  EXPECT_EQ(complaint(fast("", R"(, "on": 6, "on": 7)")), "tokenizer.json: key \"on\" stands there twice");
  EXPECT_EQ(complaint(R"({"model": {}, "model": {}})"), "tokenizer.json: key \"model\" stands there twice");
  EXPECT_EQ(complaint("{\"model\":" + std::string(64, '[')), "tokenizer.json: nested deeper than 64 levels");
  EXPECT_EQ(complaint(R"({"model": {"unk_token": "x", "type": "BPE"}})"),
            "tokenizer.json: model.type is \"BPE\", but Ember does as \"WordPiece\" says");
  EXPECT_NE(complaint(R"({"truncation": {"direction": "Left"}})"), "");
  const Folder other;
  put(other.path() / "vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nout\n");
  EXPECT_EQ(other.complaint(fast(""), "tokenizer.json"),
            fmt::format("tokenizer.json: token 5 of model.vocab is in, in {} it is another",
                        (other.path() / "vocab.txt").string()));
  const Folder longer;
  put(longer.path() / "vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nin\non\n");
  EXPECT_EQ(longer.complaint(fast(""), "tokenizer.json"),
            fmt::format("tokenizer.json: model.vocab has 6 tokens, {} has 7", (longer.path() / "vocab.txt").string()));
}

TEST(TokenizerFiles, WhiteSpaceAtTheEndOfALineIsNoPartOfItsToken) {
  const Folder folder;
  put(folder.path() / "vocab.txt", "[PAD]\r\n[UNK] \n[CLS]\n[SEP]\n[MASK]\nin\u3000\n\u2028\n");
  EXPECT_EQ(folder.complaint(fast("", R"(, "\u2028": 6)"), "tokenizer.json"), "");
  EXPECT_EQ(folder.complaint(fast("", R"(, "": 6)"), "tokenizer.json"), "");
  EXPECT_EQ(folder.complaint(fast("", R"(, "on\u3000": 6)"), "tokenizer.json"),
            "tokenizer.json: token 6 of model.vocab could not be a line of vocab.txt");
}

// All that transformers 5 writes.
TEST(TokenizerFiles, TokenizerJsonAloneIsAVocabulary) {
  const Folder folder;
  put(folder.path() / "tokenizer.json", fast(kAllAdded, R"(, "\u2028": 6)"));
  std::filesystem::remove(folder.path() / "vocab.txt");
  EXPECT_EQ(folder.read().vocabulary.text(), "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nin\n\n");
  EXPECT_EQ(folder.read().vocabulary.file(), folder.path() / "tokenizer.json");
  EXPECT_TRUE(folder.read().lower_case);  // BertTokenizer's rules are tokenizer_config.json's
}

TEST(TokenizerFiles, TokenizerJsonMayHaveAnotherName) {
  const Folder folder;  // whose vocab.txt is another vocabulary
  const auto read = [&](const std::string& content) {
    put(folder.path() / "mine.json", content);
    return read_tokenizer(folder.path() / "mine.json", folder.path() / "config.json");
  };
  const TokenizerSource source = read(fast(kAllAdded, R"(, "of": 6)"));
  EXPECT_EQ(source.vocabulary.text(), "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nin\nof\n");
  EXPECT_EQ(source.vocabulary.file(), folder.path() / "mine.json");
  EXPECT_EQ(error_of([&] { read("{}"); }), (folder.path() / "mine.json").string() + ": model.vocab has no token");
}

TEST(TokenizerFiles, AMissingVocabularyIsToldWithBothItsNames) {
  const Folder folder;
  std::filesystem::remove(folder.path() / "vocab.txt");
  EXPECT_EQ(error_of([&] { folder.read(); }), folder.path().path().string() + ": holds no vocab.txt or tokenizer.json");
}

// Classes without rules of their own do as tokenizer.json says.
TEST(TokenizerFiles, TokenizerJsonHasTheRulesOfSomeClasses) {
  for (const char* name : {"PreTrainedTokenizerFast", "TokenizersBackend"}) {
    const Folder folder;
    const std::string own = fmt::format(R"({{"tokenizer_class": "{}", "do_lower_case": true}})", name);
    EXPECT_TRUE(folder.lower_case(own)) << "without tokenizer.json";
    EXPECT_FALSE(folder.lower_case(fast(kAllAdded), "tokenizer.json"));
    EXPECT_EQ(folder.complaint(fast(R"({"content": "[SEP]"})"), "tokenizer.json"),
              "tokenizer.json: added_tokens lacks [UNK], which Ember finds in texts");
    std::string unknown = fast(kAllAdded), silent = unknown;
    unknown.replace(unknown.find("false"), 5, "\"no\"");
    EXPECT_EQ(folder.complaint(unknown, "tokenizer.json"),
              "tokenizer.json: normalizer.lowercase must be true or false");
    silent.erase(silent.find(R"(, "lowercase": false)"), 20);
    EXPECT_TRUE(folder.lower_case(silent, "tokenizer.json"));
    for (const auto& [from, to] : std::vector<std::pair<std::string, std::string>>{
             {R"("lowercase": false)", R"("lowercase": false, "handle_chinese_chars": false)"},
             {R"("lowercase": false)", R"("lowercase": false, "strip_accents": true)"}}) {
      std::string other = fast(kAllAdded);
      other.replace(other.find(from), from.size(), to);
      EXPECT_NE(folder.complaint(other, "tokenizer.json"), "") << to;
    }
  }
}

// Those of BertTokenizer have their own rules in transformers 5 alone; in transformers 4 these are tokenizer.json's.
TEST(TokenizerFiles, TokenizerJsonThatSplitsTextsInAnotherWayIsRefusedOfAnyClass) {
  const std::string own = "tokenizer.json: ";
  const std::string single = "post_processor.single is ", only = ", but Ember takes [CLS] A [SEP]";
  const std::string older = R"("post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]})";
  const std::string no_template = R"("post_processor": null, "before": {"type": "TemplateProcessing")";
  for (const char* name : {"BertTokenizer", "BertTokenizerFast", "PreTrainedTokenizerFast"}) {
    const Folder folder;
    put(folder.path() / "tokenizer_config.json", fmt::format(R"({{"tokenizer_class": "{}"}})", name));
    const auto with = [&](const std::string& from, const std::string& to) {
      std::string other = fast(kAllAdded);
      other.replace(other.find(from), from.size(), to);
      return folder.complaint(other, "tokenizer.json");
    };
    const std::string start = R"("post_processor": {"type": "TemplateProcessing")";
    EXPECT_EQ(with("", ""), "");
    EXPECT_EQ(with(start, older + R"(, "before": {"type": "TemplateProcessing")"), "");
    EXPECT_EQ(with(R"("BertNormalizer")", R"("NFKC")"),
              own + R"(normalizer.type is "NFKC", but Ember does as "BertNormalizer" says)");
    EXPECT_EQ(with(R"("lowercase": false)", R"("clean_text": false)"),
              own + "normalizer.clean_text is false, but Ember does as true says");
    EXPECT_EQ(with(R"("BertPreTokenizer")", R"("WhitespaceSplit")"),
              own + R"(pre_tokenizer.type is "WhitespaceSplit", but Ember does as "BertPreTokenizer" says)");
    EXPECT_EQ(with(R"("##")", R"("@@")"),
              own + R"(model.continuing_subword_prefix is "@@", but Ember does as "##" says)");
    EXPECT_EQ(with(R"("type": "WordPiece")", R"("type": "WordPiece", "max_input_chars_per_word": 50)"),
              own + "model.max_input_chars_per_word is 50, but Ember does as 100 says");
    EXPECT_EQ(with(R"("type": "WordPiece")", R"("type": "WordPiece", "unk_token": "in")"),
              own + R"(model.unk_token is "in", but Ember does as "[UNK]" says)");
    EXPECT_EQ(with(start, no_template), own +
                                            "post_processor.type is null, but Ember does as \"TemplateProcessing\" "
                                            "with [CLS] and [SEP] does");
    EXPECT_EQ(with(R"({"SpecialToken": {"id": "[CLS]", "type_id": 0}}, )", ""), own + single + "A [SEP]" + only);
    EXPECT_EQ(with(R"("A", "type_id": 0)", R"("A", "type_id": 1)"), own + single + "[CLS] A of type 1 [SEP]" + only);
    EXPECT_EQ(with(R"("ids": [3])", R"("ids": [4])"),
              own + "post_processor has another id for [SEP] than model.vocab, 3");
    EXPECT_NE(with(R"("ids": [3])", R"("ids": [3, 3, 3, 3, 3])"), "");
    EXPECT_NE(with(R"("ids": [3])", R"("no": [3])"), "");
    std::string id = older;
    id.replace(id.find("\"[CLS]\", 2"), 10, "\"[CLS]\", 1");
    EXPECT_EQ(with(start, id + R"(, "before": {"type": "TemplateProcessing")"),
              own + "post_processor has another id for [CLS] than model.vocab, 2");
  }
}

TEST(TokenizerFiles, ConfigJsonMayNameTheClass) {
  const Folder folder;
  put(folder.path() / "config.json", R"({"tokenizer_class": "BertJapaneseTokenizer"})");
  EXPECT_EQ(folder.complaint("{}"),
            "config.json: tokenizer_class is \"BertJapaneseTokenizer\", but Ember does as BertTokenizer does");
  EXPECT_EQ(folder.complaint(R"({"tokenizer_class": "BertTokenizer"})"), "");
}

// The JSON library's trees of such objects took it hours.
TEST(TokenizerFiles, ALargeFileTakesNoMoreThanItsLength) {
  std::string objects = "{}";
  for (int i = 0; i < (1 << 20); ++i) objects += ",{}";
  EXPECT_EQ(Folder().complaint(fast(objects), "tokenizer.json"), "");
}

}  // namespace
}  // namespace ember
