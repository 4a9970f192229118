// What stands beside vocab.txt and says how a text becomes tokens.
#pragma once

#include <array>
#include <filesystem>
#include <utility>

namespace ember {

// The tokenizer's special tokens by their role, as tokenizer_config.json and special_tokens_map.json name it.
inline constexpr std::array<std::pair<const char*, const char*>, 5> kRoleTokens{{{"unk_token", "[UNK]"},
                                                                                 {"sep_token", "[SEP]"},
                                                                                 {"pad_token", "[PAD]"},
                                                                                 {"cls_token", "[CLS]"},
                                                                                 {"mask_token", "[MASK]"}}};

// do_lower_case of tokenizer_config.json in `folder`; true without it. Error naming the file and the rule where that
// file makes other tokens of a text than BertTokenizer does with vocab.txt: another class, other rules, other special
// tokens, tokens of its own; or special_tokens_map.json and added_tokens.json do, by their tokens, or tokenizer.json,
// by its tokens and its model's type, the only things that are read of it.
bool read_lower_case(const std::filesystem::path& folder);

}  // namespace ember
