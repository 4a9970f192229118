#include "data/vocabulary.h"

#include <algorithm>
#include <utility>

#include "data/unicode.h"
#include "runtime/error.h"
#include "runtime/file.h"
#include "runtime/utf8.h"

namespace ember {
namespace {

std::vector<std::string> split(std::string_view text, const std::filesystem::path& file) {
  std::vector<std::string> tokens;
  for (std::string_view rest = text; !rest.empty();) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    check(tokens.size() < kMostTokens, "{}: more than {} lines, a token a line was expected", file.string(),
          kMostTokens);
    check(valid_utf8(line), "{}:{}: not UTF-8; a vocabulary with one token on each line was expected", file.string(),
          tokens.size() + 1);
    tokens.emplace_back(unicode::trim_end(line));
  }
  return tokens;
}

}  // namespace

Vocabulary::Vocabulary(std::string text, std::filesystem::path file) {
  std::vector<std::string> tokens = split(text, file);
  content_ = std::make_shared<const Content>(Content{std::move(text), std::move(file), std::move(tokens)});
}

Vocabulary read_vocabulary(const std::filesystem::path& file) {
  return Vocabulary(read_file(file, kMostVocabularyBytes), file);
}

bool has_token(const std::vector<std::string>& tokens, std::string_view token) {
  return std::find(tokens.begin(), tokens.end(), token) != tokens.end();
}

std::optional<std::string_view> vocabulary_line(std::string_view token) {
  const std::string_view line = unicode::trim_end(token);
  if (line.empty() || line == kContinuation) return line;
  // Python takes a carriage return for the end of a line, too.
  if (line != token || line.find_first_of("\n\r") != line.npos) return std::nullopt;
  return line;
}

}  // namespace ember
