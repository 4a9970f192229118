// vocab.txt: a token a line, whose id is the line's number from 0.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ember {

inline constexpr std::size_t kMostTokens = (std::size_t{1} << 24) - 1, kMostVocabularyBytes = std::size_t{1} << 28;

// The special tokens, which a tokenizer finds in a text where they are spelt out, too.
inline constexpr const char *kPadToken = "[PAD]", *kUnknownToken = "[UNK]", *kClsToken = "[CLS]", *kSepToken = "[SEP]",
                            *kMaskToken = "[MASK]";

// What the tokens of a word begin with, from its second on.
inline constexpr std::string_view kContinuation = "##";

// The text, which is saved and fingerprinted as it was read, and the tokens, its lines without the white space at their
// ends. It does not change once made, and copies share it.
class Vocabulary {
 public:
  // `file` is where the text was read from, which errors alone name. Error for more than kMostTokens lines, and for one
  // that is not UTF-8.
  explicit Vocabulary(std::string text = {}, std::filesystem::path file = {});

  const std::string& text() const { return content_->text; }
  const std::filesystem::path& file() const { return content_->file; }
  const std::vector<std::string>& tokens() const { return content_->tokens; }

 private:
  struct Content {
    std::string text;
    std::filesystem::path file;
    std::vector<std::string> tokens;
  };
  std::shared_ptr<const Content> content_;
};

// Error naming the file when it is unreadable or larger than kMostVocabularyBytes, and as Vocabulary's.
Vocabulary read_vocabulary(const std::filesystem::path& file);

bool has_token(const std::vector<std::string>& tokens, std::string_view token);

// The line that holds `token`, or nothing where it would hold another one. Of white space, and of "##" with white space
// behind it, the space is left out: no word contains any, so that neither such a token nor its line is part of one.
std::optional<std::string_view> vocabulary_line(std::string_view token);

}  // namespace ember
