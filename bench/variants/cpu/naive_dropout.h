// Dropout as the naive rungs draw it: ten rounds of Philox for four random words, of which one is used.
#pragma once

#include <cstdint>

#include "runtime/philox.h"

namespace ember::variants {

inline float multiplier(const Dropout& dropout, std::int64_t element) {
  if (!dropout.active()) return 1;
  const auto block = static_cast<std::uint64_t>(element / 4);
  const PhiloxBlock words = random_block(dropout.seed, dropout.site, dropout.step, block);
  return words[static_cast<std::size_t>(element % 4)] >= dropout.threshold() ? dropout.scale() : 0.0f;
}

}  // namespace ember::variants
