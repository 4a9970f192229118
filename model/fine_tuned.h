// What every program that only applies a model asks of its directory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "kernels/kernels.h"
#include "model/config.h"
#include "model/hugging_face.h"

namespace ember {

// The texts of a batch are so many at most, and have Kernels::tokens_at_once tokens together, or as many as one text
// may have where that is more.
inline constexpr std::int64_t kBatchSequences = 256;

// load_hugging_face for a model that is to be used as it is: Error naming the first weight that the file lacks and that
// would have to be drawn at random.
LoadedModel load_fine_tuned(const std::filesystem::path& directory, Kernels& kernels);

// Tokens of a text that count: what was asked for, or else 128 or the model's positions where those are fewer. Error
// for a request below 2 or above the model's positions.
std::int64_t length_to_keep(const std::optional<std::int64_t>& asked, const BertConfig& config);

}  // namespace ember
