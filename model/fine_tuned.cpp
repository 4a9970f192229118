#include "model/fine_tuned.h"

#include <algorithm>

#include "runtime/error.h"

namespace ember {
namespace {

constexpr std::int64_t kDefaultLength = 128;

}  // namespace

LoadedModel load_fine_tuned(const std::filesystem::path& directory, Kernels& kernels) {
  LoadedModel model = load_hugging_face(directory, kernels);
  const std::vector<std::string>& drawn = model.report.initialised;
  if (!drawn.empty())
    fail("{}: there is no tensor {}: the model is not fine-tuned", directory.string(), printable(drawn.front()));
  return model;
}

std::int64_t length_to_keep(const std::optional<std::int64_t>& asked, const BertConfig& config) {
  if (!asked) return std::min(kDefaultLength, config.positions);
  check(*asked >= 2 && *asked <= config.positions,
        "--max-length {}: must be from 2 to {}, the positions of the model (max_position_embeddings)", *asked,
        config.positions);
  return *asked;
}

}  // namespace ember
