#include "model/tokenizer_files.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <string_view>

#include "model/fast_tokenizer.h"
#include "model/hugging_face.h"
#include "model/json_file.h"
#include "runtime/error.h"

namespace ember {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// Tokenizers that do the same with a vocab.txt, and two that do as tokenizer.json says. Of what that says the first
// replace the normalizer's flags; in transformers 5 they replace all but the vocabulary, in transformers 4 no more.
constexpr std::array<std::string_view, 8> kClassesWithRules{
    "BertTokenizer",    "BertTokenizerFast",    "DistilBertTokenizer", "DistilBertTokenizerFast",
    "ElectraTokenizer", "ElectraTokenizerFast", "MobileBertTokenizer", "MobileBertTokenizerFast"};
constexpr std::array<std::string_view, 2> kClassesWithoutRules{"PreTrainedTokenizerFast", "TokenizersBackend"};

// A special token as the files have it: a text, or an object with it.
std::string content_of(const json& token) {
  const json& content = token.is_object() && token.contains("content") ? token["content"] : token;
  return content.is_string() ? content.get<std::string>() : content.dump();
}

void require_plain(const json& token, const fs::path& path) {
  for (const char* flag : {"normalized", "single_word"})
    check(!token.is_object() || token.value(flag, json(false)) == false,
          "{}: {} is {}, but Ember looks for tokens as they stand", path.string(), printable(content_of(token)), flag);
}

// `tokens` are the vocabulary's. One that it lacks may be null.
void require_special_tokens(const json& object, const fs::path& path, const std::vector<std::string>& tokens) {
  for (const auto& [role, content] : kRoleTokens) {
    const auto token = object.find(role);
    if (token == object.end() || (token->is_null() && !has_token(tokens, content))) continue;
    check(content_of(*token) == content, "{}: {} is {}, but Ember takes {}", path.string(), role,
          printable(content_of(*token)), content);
    require_plain(*token, path);
  }
  for (const char* role : {"bos_token", "eos_token"})
    if (const json token = object.value(role, json()); !token.is_null())
      require_known_token(content_of(token), path, role);
  for (const char* list :
       {"added_tokens_decoder", "additional_special_tokens", "extra_special_tokens", "model_specific_special_tokens"})
    for (const json& token : object.value(list, json::object())) {
      require_known_token(content_of(token), path, list);
      require_plain(token, path);
    }
}

// Keys of tokenizer_config.json for which Ember does one thing, which is also what their absence means.
void require_rules(const json& object, const fs::path& path) {
  const std::array<std::pair<const char*, json>, 6> rules{{{"do_basic_tokenize", true},
                                                           {"tokenize_chinese_chars", true},
                                                           {"split_special_tokens", false},
                                                           {"truncation_side", "right"},
                                                           {"word_tokenizer_type", "basic"},
                                                           {"subword_tokenizer_type", "wordpiece"}}};
  for (const auto& [key, only] : rules) {
    const json value = object.value(key, json());
    check(value.is_null() || value == only, "{}: {} is {}, but Ember does as {} says", path.string(), key,
          printable(value.dump(), 60), only.dump());
  }
  if (const json words = object.value("never_split", json()); !words.is_null())
    check(words.empty(), "{}: never_split names words, which Ember splits", path.string());
}

// Whether tokenizer.json has the rules, and not the class. The class is in config.json where tokenizer_config.json
// names none.
bool has_own_rules(const json& object, const fs::path& path, const fs::path& config) {
  json name = object.value("tokenizer_class", json());
  const bool here = !name.is_null();
  if (!here) name = read_json_object(config).value("tokenizer_class", json());
  if (name.is_null()) return false;
  const auto* text = name.get_ptr<const std::string*>();
  const auto is_among = [&](const auto& classes) {
    return text != nullptr && std::find(classes.begin(), classes.end(), *text) != classes.end();
  };
  const bool without = is_among(kClassesWithoutRules);
  check(without || is_among(kClassesWithRules), "{}: tokenizer_class is {}, but Ember does as BertTokenizer does",
        (here ? path : config).string(), printable(name.dump()));
  return without;
}

bool flag(const json& object, const fs::path& path, const char* key, bool otherwise) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return otherwise;
  check(found->is_boolean(), "{}: {} must be true or false", path.string(), key);
  return found->get<bool>();
}

// As a double, since transformers writes 10^30 for no limit. Before version 3 it wrote max_len, which it still reads.
std::optional<std::int64_t> max_length(const json& object, const fs::path& path) {
  const char* const key =
      object.contains("max_len") && !object.contains("model_max_length") ? "max_len" : "model_max_length";
  const json length = object.value(key, json());
  if (length.is_null()) return {};
  const double number = length.is_number() ? length.get<double>() : 0;
  check(number >= 2 && number == std::floor(number), "{}: {} is {}; a whole number from 2 on was expected",
        path.string(), key, printable(length.dump(), 60));
  if (number > std::numeric_limits<std::int32_t>::max()) return {};
  return static_cast<std::int64_t>(number);
}

std::string lines_of(const std::vector<std::string>& tokens) {
  std::string lines;
  for (const std::string& token : tokens) lines += token + "\n";
  return lines;
}

void require_same_vocabulary(const FastTokenizer& fast, const fs::path& path, const Vocabulary& vocabulary) {
  const std::vector<std::string>& tokens = vocabulary.tokens();
  const fs::path& file = vocabulary.file();
  if (fast.vocabulary.empty()) return;
  for (std::size_t i = 0; i < fast.vocabulary.size(); ++i)
    check(i < tokens.size() && tokens[i] == fast.vocabulary[i],
          "{}: token {} of model.vocab is {}, in {} it is another", path.string(), i, printable(fast.vocabulary[i]),
          file.string());
  check(tokens.size() == fast.vocabulary.size(), "{}: model.vocab has {} tokens, {} has {}", path.string(),
        fast.vocabulary.size(), file.string(), tokens.size());
}

}  // namespace

void require_known_token(const std::string& token, const fs::path& path, const char* list) {
  const auto is_it = [&](const auto& role) { return token == role.second; };
  check(std::any_of(kRoleTokens.begin(), kRoleTokens.end(), is_it), "{}: {}{}has {}, which Ember does not know",
        path.string(), list, *list == '\0' ? "" : " ", printable(token));
}

TokenizerSource read_tokenizer(const fs::path& vocabulary, const fs::path& config) {
  const bool named = vocabulary.extension() == ".json";
  const fs::path folder = vocabulary.parent_path(), fast_path = named ? vocabulary : folder / kFastTokenizerFile;
  std::optional<FastTokenizer> fast;
  if (fs::exists(fast_path)) fast = read_fast_tokenizer(fast_path);
  const bool from_fast = named || !fs::exists(vocabulary);
  check(fast || !from_fast, "{}: holds no {} or {}", folder.string(), kVocabularyFile, kFastTokenizerFile);
  check(!from_fast || !fast->vocabulary.empty(), "{}: model.vocab has no token", fast_path.string());
  TokenizerSource source;
  source.vocabulary = from_fast ? Vocabulary(lines_of(fast->vocabulary), fast_path) : read_vocabulary(vocabulary);
  const std::vector<std::string>& tokens = source.vocabulary.tokens();
  if (fast) require_same_vocabulary(*fast, fast_path, source.vocabulary);

  if (const fs::path path = folder / kSpecialTokensFile; fs::exists(path))
    require_special_tokens(read_json_object(path), path, tokens);
  if (const fs::path path = folder / kAddedTokensFile; fs::exists(path))  // of older versions of transformers
    for (const json object = read_json_object(path); const auto& [token, id] : object.items())
      require_known_token(token, path);
  const fs::path path = folder / kTokenizerFile;
  const json object = fs::exists(path) ? read_json_object(path) : json::object();
  require_rules(object, path);
  require_special_tokens(object, path, tokens);
  source.max_length = max_length(object, path);
  const bool own_rules = has_own_rules(object, path, config);
  if (fast) require_bert_pieces(*fast, fast_path);
  if (fast && own_rules) {
    source.lower_case = require_bert_rules(*fast, fast_path);
    return source;
  }
  source.lower_case = flag(object, path, "do_lower_case", true);
  check(flag(object, path, "strip_accents", source.lower_case) == source.lower_case,
        "{}: strip_accents is {}, but Ember does as do_lower_case says", path.string(), !source.lower_case);
  return source;
}

}  // namespace ember
