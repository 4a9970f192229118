#include "model/tokenizer_files.h"

#include <algorithm>
#include <string>
#include <string_view>

#include "data/strict_json.h"
#include "model/hugging_face.h"
#include "model/json_file.h"
#include "runtime/error.h"
#include "runtime/file.h"

namespace ember {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// Tokenizers that do the same with a vocab.txt, and names that say nothing of it.
constexpr std::array<std::string_view, 10> kClasses{
    "BertTokenizer",           "BertTokenizerFast",    "DistilBertTokenizer", "DistilBertTokenizerFast",
    "ElectraTokenizer",        "ElectraTokenizerFast", "MobileBertTokenizer", "MobileBertTokenizerFast",
    "PreTrainedTokenizerFast", "TokenizersBackend"};

void require_known(const std::string& token, const fs::path& path, const char* list = "") {
  const auto is_it = [&](const auto& role) { return token == role.second; };
  check(std::any_of(kRoleTokens.begin(), kRoleTokens.end(), is_it), "{}: {}{}has {}, which Ember does not know",
        path.string(), list, *list == '\0' ? "" : " ", printable(token));
}

// A special token as the files have it: a text, or an object with it.
std::string content_of(const json& token) {
  const json& content = token.is_object() && token.contains("content") ? token["content"] : token;
  return content.is_string() ? content.get<std::string>() : content.dump();
}

void require_special_tokens(const json& object, const fs::path& path) {
  for (const auto& [role, content] : kRoleTokens)
    if (const json token = object.value(role, json()); !token.is_null())
      check(content_of(token) == content, "{}: {} is {}, but Ember takes {}", path.string(), role,
            printable(content_of(token)), content);
  for (const char* list : {"added_tokens_decoder", "additional_special_tokens", "extra_special_tokens"})
    for (const json& token : object.value(list, json::object())) require_known(content_of(token), path, list);
}

void require_bert_rules(const json& object, const fs::path& path) {
  const std::string file = path.string();
  if (const json name = object.value("tokenizer_class", json()); !name.is_null())
    check(std::find(kClasses.begin(), kClasses.end(), name) != kClasses.end(),
          "{}: tokenizer_class is {}, but Ember does as BertTokenizer does", file, printable(name.dump()));
  check(object.value("do_basic_tokenize", json(true)) != false, "{}: do_basic_tokenize is false, but Ember does it",
        file);
  if (const json words = object.value("never_split", json()); !words.is_null())
    check(words.empty(), "{}: never_split names words, which Ember splits", file);
}

// Refuses another model than WordPiece in tokenizer.json, and tokens of its own, which transformers 5 keeps there alone
// where they were added. Its vocabulary makes it large, so that no tree is built of it.
class FastTokenizer final : public JsonEvents {
 public:
  explicit FastTokenizer(const fs::path& path) : path_(path) {}

  bool start_object(std::size_t) override { return ++level_, true; }
  bool start_array(std::size_t) override { return ++level_, true; }
  bool end_object() override { return --level_, true; }
  bool end_array() override { return --level_, true; }
  bool key(string_t& name) override {
    if (level_ == 1) part_ = name;
    is_token_ = part_ == "added_tokens" && level_ == 3 && name == "content";
    is_type_ = part_ == "model" && level_ == 2 && name == "type";
    return true;
  }
  bool string(string_t& text) override {
    if (is_token_) require_known(text, path_, "added_tokens");
    check(!is_type_ || text == "WordPiece", "{}: its model is {}, but Ember's is WordPiece", path_.string(),
          printable(text));
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception& error) override {
    fail("{}: not JSON: {}", path_.string(), json_complaint(error));
  }

 private:
  const fs::path& path_;
  int level_ = 0;
  std::string part_;  // the key of the outermost object that is being read
  bool is_token_ = false, is_type_ = false;
};

void require_no_added_tokens(const fs::path& folder) {
  if (const fs::path path = folder / kSpecialTokensFile; fs::exists(path))
    require_special_tokens(read_json_object(path), path);
  if (const fs::path path = folder / kAddedTokensFile; fs::exists(path))  // of older versions of transformers
    for (const json object = read_json_object(path); const auto& [token, id] : object.items())
      require_known(token, path);
  if (const fs::path path = folder / kFastTokenizerFile; fs::exists(path)) {
    const std::string text = read_file(path, kMostVocabularyBytes);
    check(text.find('\0') == text.npos, "{}: not JSON: it holds a NUL byte", path.string());
    FastTokenizer tokenizer(path);
    json::sax_parse(text, &tokenizer);
  }
}

bool flag(const json& object, const fs::path& path, const char* key, bool otherwise) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return otherwise;
  check(found->is_boolean(), "{}: {} must be true or false", path.string(), key);
  return found->get<bool>();
}

}  // namespace

bool read_lower_case(const fs::path& folder) {
  require_no_added_tokens(folder);
  const fs::path path = folder / kTokenizerFile;
  if (!fs::exists(path)) return true;
  const json object = read_json_object(path);
  require_bert_rules(object, path);
  require_special_tokens(object, path);
  const bool lower_case = flag(object, path, "do_lower_case", true);
  check(flag(object, path, "strip_accents", lower_case) == lower_case,
        "{}: strip_accents is {}, but Ember does as do_lower_case says", path.string(), !lower_case);
  check(flag(object, path, "tokenize_chinese_chars", true),
        "{}: tokenize_chinese_chars is false, but Ember sets them apart", path.string());
  return lower_case;
}

}  // namespace ember
