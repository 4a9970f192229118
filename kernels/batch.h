// A batch as the kernels see it: sequences laid end to end, so that padding does not exist. Views into memory of the
// kernels' device; data/packing.h makes the arrays.
#pragma once

#include <cstdint>

#include "runtime/tensor.h"

namespace ember {

struct Batch {
  std::int64_t sequences = 0;   // B
  std::int64_t tokens = 0;      // N, the sum of the lengths
  std::int64_t max_length = 0;  // of the longest sequence
  std::int64_t unique = 0;      // U, the number of different token ids but the padding id

  const std::int32_t* token_ids = nullptr;   // (N)
  const std::int32_t* cu_seqlens = nullptr;  // (B + 1): sequence b is rows [cu_seqlens[b], cu_seqlens[b + 1])
  // The rows of the word embedding that take part in training, for a gradient of U rows instead of V: id unique_ids[u]
  // stands at rows occurrences[unique_offsets[u] .. unique_offsets[u + 1]), in rising order. The padding id is left
  // out: it gets no gradient.
  const std::int32_t* unique_ids = nullptr;      // (U), rising
  const std::int32_t* unique_offsets = nullptr;  // (U + 1)
  const std::int32_t* occurrences = nullptr;     // (N) at most
  Tensor targets;                                // (B, K) f32, 0 or 1; empty when only scores are wanted
};

}  // namespace ember
