// tokenizer.json, as far as it can contradict BertTokenizer with a vocab.txt (the format is that of Hugging Face's
// tokenizers). Internal to model/.
#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

namespace ember {

struct FastTokenizer {
  std::vector<std::string> vocabulary;  // by id, as the lines of vocab.txt
  // Single values by their place, "normalizer.lowercase"; those of lists and of what is nested deeper are not kept.
  std::map<std::string, nlohmann::json> facts;
  std::set<std::string> added;  // contents of added_tokens
  // What post_processor makes of a text, "[CLS] A [SEP]", and the ids that it has for the tokens around it.
  std::string around;
  std::map<std::string, nlohmann::json> ids_around;
};

// Error naming the file where it is no JSON, its model is not WordPiece, it cuts texts on the left, its ids are not 0
// to n - 1 or a token of its vocabulary could not stand in a line; and for a token in added_tokens that Ember does not
// know, or that is found in texts in another way than BertTokenizer's are.
FastTokenizer read_fast_tokenizer(const std::filesystem::path& path);

// Error where it splits a text in another way than BertTokenizer, or puts something else around the tokens.
void require_bert_pieces(const FastTokenizer& tokenizer, const std::filesystem::path& path);

// Whether its normalizer does as BertTokenizer's does in lower case (normalizer.lowercase) or without; Error where it
// does otherwise.
bool require_bert_rules(const FastTokenizer& tokenizer, const std::filesystem::path& path);

}  // namespace ember
