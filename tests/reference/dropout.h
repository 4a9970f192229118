// Oracle of dropout masks: word by word.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/philox.h"

namespace ember::reference {

// What element `e` of the stream is multiplied by.
template <typename T>
T dropout_multiplier(const Dropout& dropout, std::int64_t e) {
  if (!dropout.active()) return 1;
  const auto block = random_block(dropout.seed, dropout.site, dropout.step, static_cast<std::uint64_t>(e) / 4);
  return block[static_cast<std::size_t>(e % 4)] >= dropout.threshold() ? static_cast<T>(dropout.scale()) : T{0};
}

// The first `count` elements.
template <typename T>
std::vector<T> dropout_multipliers(const Dropout& dropout, std::size_t count) {
  std::vector<T> out(count);
  for (std::size_t e = 0; e < count; ++e) out[e] = dropout_multiplier<T>(dropout, static_cast<std::int64_t>(e));
  return out;
}

}  // namespace ember::reference
