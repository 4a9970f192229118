#include "model/fine_tuned.h"

#include <algorithm>

#include "runtime/error.h"

namespace ember {
namespace {

constexpr std::int64_t kDefaultLength = 128;

}  // namespace

std::int64_t length_to_keep(const std::optional<std::int64_t>& asked, const BertConfig& config) {
  if (!asked) return std::min(kDefaultLength, config.positions);
  check(*asked >= 2 && *asked <= config.positions,
        "--max-length {}: must be a whole number from 2 to {}, the positions of the model (max_position_embeddings)",
        *asked, config.positions);
  return *asked;
}

}  // namespace ember
