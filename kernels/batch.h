// A batch as the kernels see it: sequences laid end to end, so that padding does not exist. All pointers are into
// memory of the kernels' device; Kernels::gather_batch fills the arrays, model/batches.h owns them.
#pragma once

#include <compare>
#include <cstdint>

#include "runtime/tensor.h"

namespace ember {

struct Batch {
  std::int64_t sequences = 0;   // B
  std::int64_t tokens = 0;      // N, the sum of the lengths
  std::int64_t max_length = 0;  // of the longest sequence
  std::int64_t unique = 0;      // U, the number of different token ids but the padding id

  const std::int32_t* token_ids = nullptr;  // (N)
  // (B + 1): sequence b is rows [cu_seqlens[b], cu_seqlens[b + 1]), one at least.
  const std::int32_t* cu_seqlens = nullptr;
  // The rows of the word embedding that take part in training, for a gradient of U rows instead of V: id unique_ids[u]
  // stands at rows occurrences[unique_offsets[u] .. unique_offsets[u + 1]), in rising order. The padding id is left
  // out: it gets no gradient.
  // Where only the device knows how many ids there are, U is a bound: those after the last are -1, without occurrences.
  const std::int32_t* unique_ids = nullptr;      // (U), rising
  const std::int32_t* unique_offsets = nullptr;  // (U + 1)
  const std::int32_t* occurrences = nullptr;     // (N) at most
  // (R, K) f32, 0 or 1, for the first R sequences: all but a filling. Empty when only scores are wanted.
  Tensor targets;
};

// What the host knows of a batch without looking at its tokens.
struct BatchShape {
  std::int64_t rows = 0;       // of the data set
  std::int64_t sequences = 0;  // as many; or one more, the filling: padding tokens up to a round number of tokens
  std::int64_t tokens = 0;
  std::int64_t max_length = 0;
  auto operator<=>(const BatchShape&) const = default;
};

// The arrays of a batch while they are filled, with room for a shape's tokens and sequences; `targets`: (rows, K), or
// empty.
struct BatchArrays {
  std::int32_t *token_ids = nullptr, *cu_seqlens = nullptr;
  std::int32_t *unique_ids = nullptr, *unique_offsets = nullptr, *occurrences = nullptr;
  Tensor targets;
};

// The batch whose arrays these are, with `unique` different ids.
inline Batch batch_of(const BatchArrays& arrays, const BatchShape& shape, std::int64_t unique) {
  return {shape.sequences,    shape.tokens,      shape.max_length,  unique,
          arrays.token_ids,   arrays.cu_seqlens, arrays.unique_ids, arrays.unique_offsets,
          arrays.occurrences, arrays.targets};
}

// A tokenised data set: row i is token_ids[offsets[i] .. offsets[i + 1]) with the labels label_ids[label_offsets[i] ..
// label_offsets[i + 1]).
struct DataRows {
  const std::int32_t* token_ids = nullptr;
  const std::int64_t* offsets = nullptr;
  const std::int32_t* label_ids = nullptr;
  const std::int64_t* label_offsets = nullptr;
};

// Its rows in the order in which batches take them: order[*next], order[*next + 1], ...
struct RowQueue {
  DataRows data;
  const std::int32_t* order = nullptr;  // null: as they lie
  std::int64_t* next = nullptr;
};

}  // namespace ember
