#include "model/fine_tuned.h"

#include <fmt/format.h>

#include <algorithm>

#include "runtime/error.h"

namespace ember {

BatchLimits scoring_limits(const Kernels& kernels, std::int64_t max_length) {
  constexpr std::int64_t kSequences = 256;
  return {std::max(kernels.tokens_at_once(), max_length), kSequences};
}

std::int64_t length_to_keep(const std::optional<std::int64_t>& asked, std::int64_t otherwise,
                            const BertConfig& config) {
  if (!asked) return std::min(otherwise, config.positions);
  check(*asked >= 2 && *asked <= config.positions,
        "--max-length {}: must be a whole number from 2 to {}, the positions of the model (max_position_embeddings)",
        *asked, config.positions);
  return *asked;
}

std::int64_t length_to_keep(const std::optional<std::int64_t>& asked, const LoadedModel& model) {
  return length_to_keep(asked, model.tokenizer.max_length.value_or(model.config.positions), model.config);
}

std::string note_on_cut(const Dataset& dataset, std::int64_t length, const std::filesystem::path& file) {
  if (dataset.cut == 0) return {};
  return fmt::format("{}: {} of {} texts {} cut to {} tokens (--max-length)", file.string(), dataset.cut,
                     dataset.size(), dataset.cut == 1 ? "is" : "are", length);
}

}  // namespace ember
