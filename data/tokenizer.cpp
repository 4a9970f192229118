#include "data/tokenizer.h"

#include <algorithm>
#include <array>
#include <bit>

#include "data/words.h"
#include "runtime/error.h"
#include "runtime/fnv1a.h"

namespace ember {
namespace {

// In the order of Tokenizer::Implementation::special_ids; the last may be missing.
constexpr std::array<std::string_view, 5> kSpecialTokens = {kPadToken, kUnknownToken, kClsToken, kSepToken, kMaskToken};

// Ids of those of `tokens` that begin with `prefix`, by what follows it: a hash table with linear probing, at most half
// full. An entry is the id and 8 bits of the hash: between two texts a model's weights pass through the caches, and the
// smaller the table the more of it is still there (docs/performance_cpu_inference.md).
class PieceTable {
 public:
  // `tokens` must stay as they are. Of equal ones the last counts.
  PieceTable(const std::vector<std::string>& tokens, std::string_view prefix)
      : tokens_(tokens), skipped_(prefix.size()) {
    std::size_t count = 0;
    for (const std::string& token : tokens) count += token.starts_with(prefix);
    entries_.resize(std::bit_ceil(2 * count + 1), kNone);
    for (std::size_t id = 0; id < tokens.size(); ++id)
      if (tokens[id].starts_with(prefix)) insert(static_cast<std::uint32_t>(id));
  }
  // The id of `piece`, whose hash the caller has, or -1.
  std::int32_t find(std::string_view piece, std::uint64_t hash) const {
    const std::uint32_t entry = entries_[place(piece, hash)];
    return entry == kNone ? -1 : static_cast<std::int32_t>(entry & kId);
  }
  std::size_t longest() const { return longest_; }

 private:
  static constexpr std::uint32_t kId = 0xFFFFFF, kNone = kId;
  static_assert(kMostTokens <= kId);

  std::string_view piece_of(std::uint32_t entry) const {
    return std::string_view(tokens_[entry & kId]).substr(skipped_);
  }
  void insert(std::uint32_t id) {
    const std::string_view piece = piece_of(id);
    std::uint64_t hash = kFnv1aStart;
    for (const unsigned char byte : piece) hash = fnv1a(hash, byte);
    entries_[place(piece, hash)] = tag(hash) | id;
    longest_ = std::max(longest_, piece.size());
  }
  static std::uint32_t tag(std::uint64_t hash) { return static_cast<std::uint32_t>(hash >> 32) & ~kId; }
  // Where `piece` is, or where it would be.
  std::size_t place(std::string_view piece, std::uint64_t hash) const {
    const std::size_t mask = entries_.size() - 1;
    std::size_t at = (hash ^ hash >> 32) & mask;
    while (entries_[at] != kNone && ((entries_[at] & ~kId) != tag(hash) || piece_of(entries_[at]) != piece))
      at = (at + 1) & mask;
    return at;
  }

  const std::vector<std::string>& tokens_;
  std::size_t skipped_;
  std::vector<std::uint32_t> entries_;
  std::size_t longest_ = 0;
};

}  // namespace

struct Tokenizer::Implementation {
  explicit Implementation(const TokenizerSource& source);
  void append_pieces(std::string_view word, std::vector<std::int32_t>& ids) const;

  bool lower_case;
  Vocabulary vocabulary;
  PieceTable beginnings;
  PieceTable continuations;  // without their "##"
  // The special tokens that the vocabulary has: only [MASK] may be missing, and is ordinary text then.
  std::vector<std::string_view> special_names;
  std::vector<std::int32_t> special_ids;
};

Tokenizer::Implementation::Implementation(const TokenizerSource& source)
    : lower_case(source.lower_case),
      vocabulary(source.vocabulary),
      beginnings(vocabulary.tokens(), ""),
      continuations(vocabulary.tokens(), kContinuation) {
  const std::vector<std::string>& tokens = vocabulary.tokens();
  for (const std::string_view name : kSpecialTokens) {
    const auto last = std::find(tokens.rbegin(), tokens.rend(), name);
    check(last != tokens.rend() || name == kMaskToken, "{}: the vocabulary of {} lines has no {}",
          vocabulary.file().string(), tokens.size(), name);
    if (last == tokens.rend()) continue;
    special_names.push_back(name);
    special_ids.push_back(static_cast<std::int32_t>(tokens.rend() - last) - 1);
  }
}

// Greedy longest match; a word that does not match to its end is unknown as a whole.
void Tokenizer::Implementation::append_pieces(std::string_view word, std::vector<std::int32_t>& ids) const {
  const std::size_t first = ids.size();
  const PieceTable* table = &beginnings;
  std::array<std::uint64_t, 4 * Word::kLongest> hashes;
  while (!word.empty()) {
    std::size_t length = std::min(word.size(), table->longest());
    std::uint64_t hash = kFnv1aStart;
    for (std::size_t i = 0; i < length; ++i) hashes[i] = hash = fnv1a(hash, static_cast<unsigned char>(word[i]));
    std::int32_t id = -1;
    for (; length > 0; --length) {
      id = table->find(word.substr(0, length), hashes[length - 1]);
      if (id >= 0) break;
    }
    if (length == 0) {
      ids.resize(first);
      ids.push_back(special_ids[1]);
      return;
    }
    ids.push_back(id);
    word.remove_prefix(length);
    table = &continuations;
  }
}

Tokenizer::Tokenizer(const std::filesystem::path& vocabulary, bool lower_case)
    : Tokenizer(TokenizerSource{read_vocabulary(vocabulary), lower_case}) {}
Tokenizer::Tokenizer(const TokenizerSource& source) : implementation_(std::make_unique<Implementation>(source)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

bool Tokenizer::encode(std::string_view text, std::int64_t max_length, std::vector<std::int32_t>& ids) const {
  check(max_length >= 2, "a maximum length of {} leaves no room for [CLS] and [SEP]; at least 2 was expected",
        max_length);
  const Implementation& own = *implementation_;
  ids.push_back(cls_id());
  const std::size_t begin = ids.size();
  const auto room = static_cast<std::size_t>(max_length - 2);
  WordReader reader(text, own.special_names, own.lower_case);
  Word word;
  while (ids.size() - begin < room && reader.next(word)) {
    if (word.special >= 0)
      ids.push_back(own.special_ids[static_cast<std::size_t>(word.special)]);
    else if (word.too_long)
      ids.push_back(unknown_id());
    else
      own.append_pieces(word.text, ids);
  }
  const bool cut = ids.size() - begin > room || (ids.size() - begin == room && reader.next(word));
  ids.resize(std::min(ids.size(), begin + room));
  ids.push_back(sep_id());
  return cut;
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text, std::int64_t max_length) const {
  std::vector<std::int32_t> ids;
  encode(text, max_length, ids);
  return ids;
}

std::int64_t Tokenizer::vocabulary_size() const {
  return static_cast<std::int64_t>(implementation_->vocabulary.tokens().size());
}
const std::string& Tokenizer::token(std::int32_t id) const {
  return implementation_->vocabulary.tokens().at(static_cast<std::size_t>(id));
}
std::int32_t Tokenizer::pad_id() const {
  return implementation_->special_ids[0];
}
std::int32_t Tokenizer::unknown_id() const {
  return implementation_->special_ids[1];
}
std::int32_t Tokenizer::cls_id() const {
  return implementation_->special_ids[2];
}
std::int32_t Tokenizer::sep_id() const {
  return implementation_->special_ids[3];
}

}  // namespace ember
