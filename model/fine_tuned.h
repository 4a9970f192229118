// What every program that only applies a model asks of its directory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "kernels/kernels.h"
#include "model/config.h"
#include "model/hugging_face.h"

namespace ember {

// The texts of a batch together have at most so many tokens, enough rows for the products and few enough that what
// these write stays in the threads' caches, as far as each precision gains by that (docs/performance_cpu.md); and are
// so many at most. threads: 0 for as many as OpenMP would take.
std::int64_t batch_tokens(Precision precision, int threads);
inline constexpr std::int64_t kBatchSequences = 256;

// load_hugging_face for a model that is to be used as it is: Error naming the first weight that the file lacks and that
// would have to be drawn at random.
LoadedModel load_fine_tuned(const std::filesystem::path& directory, Kernels& kernels);

// Tokens of a text that count: what was asked for, or else 128 or the model's positions where those are fewer. Error
// for a request below 2 or above the model's positions.
std::int64_t length_to_keep(const std::optional<std::int64_t>& asked, const BertConfig& config);

}  // namespace ember
