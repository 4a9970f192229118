// The files that say how a text becomes tokens.
#pragma once

#include <array>
#include <filesystem>
#include <string>
#include <utility>

#include "data/tokenizer.h"

namespace ember {

// The tokenizer's special tokens by their role, as tokenizer_config.json and special_tokens_map.json name it.
inline constexpr std::array<std::pair<const char*, const char*>, 5> kRoleTokens{{{"unk_token", kUnknownToken},
                                                                                 {"sep_token", kSepToken},
                                                                                 {"pad_token", kPadToken},
                                                                                 {"cls_token", kClsToken},
                                                                                 {"mask_token", kMaskToken}}};

// The tokenizer of vocab.txt at `vocabulary`, or where there is none of tokenizer.json beside it, which is all that
// transformers 5 writes; a `vocabulary` whose name ends in .json is such a file itself. Error naming the file and the
// rule where config.json at `config`, or tokenizer_config.json, special_tokens_map.json, added_tokens.json or
// tokenizer.json beside the vocabulary make other tokens of a text than BertTokenizer does: another class, other rules,
// other special tokens, tokens of its own, another vocabulary.
TokenizerSource read_tokenizer(const std::filesystem::path& vocabulary, const std::filesystem::path& config);

// Error naming the file, and the list in it, unless `token` is one of those above.
void require_known_token(const std::string& token, const std::filesystem::path& path, const char* list = "");

}  // namespace ember
