// What the programs that apply a model have in common.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "data/dataset.h"
#include "model/hugging_face.h"

namespace ember {

// The texts of a batch are so many at most, and have Kernels::tokens_at_once tokens together, or as many as one text
// may have where that is more.
inline constexpr std::int64_t kBatchSequences = 256;

// Tokens of a text that count: what was asked for, or else `otherwise` or the model's positions where those are fewer.
// Error for a request below 2 or above the model's positions.
std::int64_t length_to_keep(const std::optional<std::int64_t>& asked, std::int64_t otherwise, const BertConfig& config);
// The same for texts to score: without a request what the model's tokenizer states, as train saves it.
std::int64_t length_to_keep(const std::optional<std::int64_t>& asked, const LoadedModel& model);

// What the user should know where texts were cut to that length, without an end of line; empty where none was.
std::string note_on_cut(const Dataset& dataset, std::int64_t length, const std::filesystem::path& file);

}  // namespace ember
