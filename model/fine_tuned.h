// What the programs that apply a model have in common.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "data/dataset.h"
#include "kernels/kernels.h"
#include "model/batches.h"
#include "model/hugging_face.h"

namespace ember {

// Of a batch of texts to score: Kernels::tokens_at_once tokens, or the longest text's where that is more.
BatchLimits scoring_limits(const Kernels& kernels, std::int64_t max_length);

// Tokens of a text that count: what was asked for, or else `otherwise` or the model's positions where those are fewer.
// Error for a request below 2 or above the model's positions.
std::int64_t length_to_keep(const std::optional<std::int64_t>& asked, std::int64_t otherwise, const BertConfig& config);
// The same for texts to score: without a request what the model's tokenizer states, as train saves it.
std::int64_t length_to_keep(const std::optional<std::int64_t>& asked, const LoadedModel& model);

// What the user should know where texts were cut to that length, without an end of line; empty where none was.
std::string note_on_cut(const Dataset& dataset, std::int64_t length, const std::filesystem::path& file);

}  // namespace ember
