#include "model/fast_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "data/strict_json.h"
#include "data/vocabulary.h"
#include "data/words.h"
#include "model/json_file.h"
#include "model/tokenizer_files.h"
#include "runtime/error.h"
#include "runtime/file.h"

namespace ember {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// What is kept of a file, of which a hostile one may have any amount.
constexpr std::size_t kMostFacts = 1000, kLongestFactName = 100, kLongestAround = 200;
constexpr std::size_t kMostIds = 3;  // around a text: more than were expected

// Its vocabulary makes the file large, so that no tree is built of it. Numbers come as json, ids and all.
class FastTokenizerEvents final : public JsonEvents {
 public:
  explicit FastTokenizerEvents(const fs::path& path) : path_(path) {}

  std::vector<std::pair<std::string, json>> ids;  // of tokens
  FastTokenizer tokenizer;

  bool start_object(std::size_t) override { return keys_.push_back(""), true; }
  bool start_array(std::size_t) override { return keys_.push_back("[]"), true; }
  bool end_object() override { return keys_.pop_back(), true; }
  bool end_array() override { return keys_.pop_back(), true; }
  bool key(string_t& name) override { return keys_.back() = name, true; }
  bool null() override { return take(nullptr); }
  bool boolean(bool value) override { return take(value); }
  bool number_integer(number_integer_t value) override { return take(value); }
  bool number_unsigned(number_unsigned_t value) override { return take(value); }
  bool number_float(number_float_t value, const string_t&) override { return take(value); }
  bool string(string_t& value) override { return take(value); }

 private:
  bool take(json value) {
    if (keys_.size() == 3 && keys_[0] == "model" && keys_[1] == "vocab") {
      ids.emplace_back(keys_[2], std::move(value));
    } else if (keys_.size() == 3 && keys_[0] == "added_tokens") {
      take_of_added(value);
    } else if (keys_.size() > 2 && keys_[0] == "post_processor") {
      take_of_post_processor(value);
    } else if (keys_.size() == 2 && keys_[0].size() + keys_[1].size() < kLongestFactName &&
               tokenizer.facts.size() < kMostFacts) {
      tokenizer.facts[keys_[0] + "." + keys_[1]] = std::move(value);
    }
    return true;
  }

  void take_of_added(const json& value) {
    const std::string& key = keys_[2];
    if (key == "content" && value.is_string()) {
      require_known_token(value.get<std::string>(), path_, "added_tokens");
      tokenizer.added.insert(value.get<std::string>());
    }
    check((key != "normalized" && key != "single_word") || value == false,
          "{}: a token of added_tokens is {}, but Ember looks for tokens as they stand", path_.string(), key);
  }

  // Of a template's pieces, {"SpecialToken": {"id": "[CLS]", "type_id": 0}}, and its special_tokens; of the older
  // BertProcessing's "cls": ["[CLS]", 101].
  void take_of_post_processor(const json& value) {
    const std::string& part = keys_[1];
    const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
    std::string& around = tokenizer.around;
    if (part == "single" && keys_.size() == 5 && around.size() + text.size() < kLongestAround) {
      if (keys_[4] == "id") around += (around.empty() ? "" : " ") + text;
      if (keys_[4] == "type_id" && value != 0) around += " of type " + text;
    } else if (part == "special_tokens" && keys_.size() == 5 && keys_[3] == "ids" && is_around(keys_[2])) {
      take_id_around(keys_[2], value);
    } else if ((part == "cls" || part == "sep") && keys_.size() == 3) {
      take_id_around(part, value);
    }
  }
  void take_id_around(const std::string& token, const json& id) {
    if (json& ids = tokenizer.ids_around[token]; ids.size() < kMostIds) ids.push_back(id);
  }
  static bool is_around(std::string_view token) { return token == kClsToken || token == kSepToken; }

  const fs::path& path_;
  std::vector<std::string> keys_;
};

std::vector<std::string> vocabulary_of(const std::vector<std::pair<std::string, json>>& ids, const fs::path& path) {
  std::vector<std::string> tokens(ids.size());
  std::vector<bool> taken(ids.size());
  for (const auto& [token, id] : ids) {
    const bool fits = id.is_number_unsigned() && id.get<std::uint64_t>() < ids.size();
    check(fits && !taken[id.get<std::size_t>()],
          "{}: token {} of model.vocab has id {}, each from 0 to {} was expected once", path.string(), printable(token),
          printable(id.dump()), ids.size() - 1);
    const auto line = vocabulary_line(token);
    check(line.has_value(), "{}: token {} of model.vocab could not be a line of vocab.txt", path.string(), id.dump());
    taken[id.get<std::size_t>()] = true;
    tokens[id.get<std::size_t>()] = *line;
  }
  return tokens;
}

json fact(const FastTokenizer& tokenizer, const char* name, const json& otherwise) {
  const auto found = tokenizer.facts.find(name);
  return found == tokenizer.facts.end() ? otherwise : found->second;
}

void require_fact(const FastTokenizer& tokenizer, const fs::path& path, const char* name, const json& only,
                  const json& otherwise) {
  const json value = fact(tokenizer, name, otherwise);
  check(value == only, "{}: {} is {}, but Ember does as {} says", path.string(), name, printable(value.dump(), 60),
        only.dump());
}

// That [CLS] and [SEP] stand around the tokens of a text, with the vocabulary's ids.
void require_bert_ends(const FastTokenizer& tokenizer, const fs::path& path) {
  const json type = fact(tokenizer, "post_processor.type", nullptr);
  const bool older = type == "BertProcessing";
  check(older || type == "TemplateProcessing",
        "{}: post_processor.type is {}, but Ember does as \"TemplateProcessing\" with {} and {} does", path.string(),
        printable(type.dump(), 60), kClsToken, kSepToken);
  const std::string only = fmt::format("{} A {}", kClsToken, kSepToken);
  check(older || tokenizer.around == only, "{}: post_processor.single is {}, but Ember takes {}", path.string(),
        printable(tokenizer.around, 60), only);
  for (const auto& [token, part] : {std::pair(kClsToken, "cls"), std::pair(kSepToken, "sep")}) {
    const auto ids = tokenizer.ids_around.find(older ? part : token);
    const std::vector<std::string>& all = tokenizer.vocabulary;
    const auto id = std::find(all.begin(), all.end(), token) - all.begin();
    const json expected = older ? json({token, id}) : json({id});
    check(ids != tokenizer.ids_around.end() && ids->second == expected,
          "{}: post_processor has another id for {} than model.vocab, {}", path.string(), token, id);
  }
}

}  // namespace

FastTokenizer read_fast_tokenizer(const fs::path& path) {
  FastTokenizerEvents events(path);
  parse_events(read_file(path, kMostVocabularyBytes), kMostJsonLevels, events,
               [&](const auto& what) { fail("{}: {}", path.string(), what); });
  require_fact(events.tokenizer, path, "model.type", "WordPiece", "WordPiece");
  require_fact(events.tokenizer, path, "truncation.direction", "Right", "Right");
  events.tokenizer.vocabulary = vocabulary_of(events.ids, path);
  return std::move(events.tokenizer);
}

void require_bert_pieces(const FastTokenizer& tokenizer, const fs::path& path) {
  const auto require = [&](const char* name, const json& only, const json& otherwise) {
    require_fact(tokenizer, path, name, only, otherwise);
  };
  require("normalizer.type", "BertNormalizer", nullptr);
  require("normalizer.clean_text", true, true);
  require("pre_tokenizer.type", "BertPreTokenizer", nullptr);
  require("model.unk_token", kUnknownToken, kUnknownToken);
  require("model.continuing_subword_prefix", kContinuation, kContinuation);
  require("model.max_input_chars_per_word", Word::kLongest, Word::kLongest);
  require_bert_ends(tokenizer, path);
}

bool require_bert_rules(const FastTokenizer& tokenizer, const fs::path& path) {
  require_fact(tokenizer, path, "normalizer.handle_chinese_chars", true, true);
  const json lower_case = fact(tokenizer, "normalizer.lowercase", true),
             strip = fact(tokenizer, "normalizer.strip_accents", nullptr);
  check(lower_case.is_boolean(), "{}: normalizer.lowercase must be true or false", path.string());
  check(strip.is_null() || strip == lower_case,
        "{}: normalizer.strip_accents is {}, but Ember does as normalizer.lowercase says", path.string(),
        printable(strip.dump(), 60));
  for (const auto& [role, token] : kRoleTokens)
    check(tokenizer.added.contains(token) || !has_token(tokenizer.vocabulary, token),
          "{}: added_tokens lacks {}, which Ember finds in texts", path.string(), token);
  return lower_case.get<bool>();
}

}  // namespace ember
