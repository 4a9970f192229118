// vocab.txt as text: a token a line.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ember {

// What the tokens of a word begin with, from its second on.
inline constexpr std::string_view kContinuation = "##";

// The tokens by their id: the lines without the white space at their ends. Error naming `path` for more than
// kMostTokens lines (data/tokenizer.h), and for one that is not UTF-8.
std::vector<std::string> split_vocabulary(std::string_view content, const std::filesystem::path& path);

bool has_token(const std::vector<std::string>& tokens, std::string_view token);

// The line that holds `token`, or nothing where it would hold another one. Of white space, and of "##" with white space
// behind it, the space is left out: no word contains any, so that neither such a token nor its line is part of one.
std::optional<std::string_view> vocabulary_line(std::string_view token);

}  // namespace ember
