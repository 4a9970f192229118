// What the programs that apply a model have in common.
#pragma once

#include <cstdint>
#include <optional>

#include "model/config.h"

namespace ember {

// The texts of a batch are so many at most, and have Kernels::tokens_at_once tokens together, or as many as one text
// may have where that is more.
inline constexpr std::int64_t kBatchSequences = 256;

// Tokens of a text that count: what was asked for, or else 128 or the model's positions where those are fewer. Error
// for a request below 2 or above the model's positions.
std::int64_t length_to_keep(const std::optional<std::int64_t>& asked, const BertConfig& config);

}  // namespace ember
