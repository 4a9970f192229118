// Dropout as in training (probability 0.1), for benchmarks.
#pragma once

#include "runtime/philox.h"

namespace ember {

inline Dropout training_dropout(Site site) {
  return {0.1f, 42, static_cast<std::uint32_t>(site), 1};
}

}  // namespace ember
