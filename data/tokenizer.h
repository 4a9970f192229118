// WordPiece tokenizer with the ids of Hugging Face's BertTokenizerFast. The rules, in order: special tokens are found
// in the raw text; control characters go; white space becomes a space; CJK ideographs are set apart; NFD, drop Mn,
// lower-case; split at white space and around punctuation; greedy longest match within each word (Wu et al. 2016;
// Devlin et al. 2019). A tokenizer does not change once made, so any number of threads may use one.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/vocabulary.h"

namespace ember {

// What a tokenizer is made from. Whoever keeps it can make the same one whatever becomes of the file meanwhile.
struct TokenizerSource {
  Vocabulary vocabulary;
  bool lower_case = true;  // do_lower_case of tokenizer_config.json
  // model_max_length: the tokens of a text that the model was made for.
  std::optional<std::int64_t> max_length = std::nullopt;
};

class Tokenizer {
 public:
  // From vocab.txt: the id is the line's number from 0, trailing white space is trimmed, of equal lines the last
  // counts. Error naming the file when it is unreadable, larger than kMostVocabularyBytes or kMostTokens lines, not
  // UTF-8, or lacks [PAD], [UNK], [CLS] or [SEP]; where [MASK] is missing it is ordinary text. Without lower_case
  // accents stay as well, as cased models want it.
  explicit Tokenizer(const std::filesystem::path& vocabulary, bool lower_case = true);
  explicit Tokenizer(const TokenizerSource& source);
  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // Appends [CLS] pieces [SEP] to `ids`, the pieces cut on the right to max_length - 2, and says whether there were
  // more. Error if max_length < 2. Bytes that are not UTF-8 count as U+FFFD, which the rules drop.
  bool encode(std::string_view text, std::int64_t max_length, std::vector<std::int32_t>& ids) const;
  std::vector<std::int32_t> encode(std::string_view text, std::int64_t max_length) const;

  std::int64_t vocabulary_size() const;  // lines of vocab.txt
  const std::string& token(std::int32_t id) const;
  std::int32_t pad_id() const;
  std::int32_t unknown_id() const;
  std::int32_t cls_id() const;
  std::int32_t sep_id() const;

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace ember
