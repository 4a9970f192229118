// The sequences of a batch as kernels see them, and the gradients of the embedding tables: for each word of the batch
// the sum of its tokens' rows of dsum in the order of `occurrences`, for each position that of the rows there in the
// order of the sequences. DeferredGradients computes them beside its other sums: moves 4 N C bytes and writes
// 4 (U + P + T) C; 2 operations an element.
#pragma once

#include "kernels/cuda/vector_io.cuh"
#include "kernels/kernels.h"

namespace ember {

// What the kernels need of a Batch.
struct Sequences {
  Sequences() = default;
  explicit Sequences(const Batch& batch)
      : token_ids(batch.token_ids),
        cu_seqlens(batch.cu_seqlens),
        unique_offsets(batch.unique_offsets),
        occurrences(batch.occurrences),
        count(static_cast<int>(batch.sequences)),
        tokens(static_cast<int>(batch.tokens)),
        unique(static_cast<int>(batch.unique)) {}

  const std::int32_t *token_ids, *cu_seqlens, *unique_offsets, *occurrences;
  int count, tokens, unique;

  // Of token n in its sequence, the last that begins at n or before.
  __device__ int place(int n) const {
    int first = 0, last = count;  // cu_seqlens[first] <= n < cu_seqlens[last]
    while (last - first > 1) {
      const int middle = (first + last) / 2;
      (cu_seqlens[middle] <= n ? first : last) = middle;
    }
    return n - cu_seqlens[first];
  }
};

struct TokenSums {
  Rows<float> dword, dposition, dtype;
  Rows<const __half> dsum;
  Sequences sequences;
  int positions, cols;
  bool vectors;  // of 4, by `vectorises`

  TokenSums() = default;
  TokenSums(const EmbeddingTensors& to, const Tensor& from, const Batch& batch)
      : dword(rows_of<float>(to.word)),
        dposition(rows_of<float>(to.position)),
        dtype(rows_of<float>(to.type)),
        dsum(rows_of<const __half>(from)),
        sequences(batch),
        positions(static_cast<int>(to.position.rows)),
        cols(static_cast<int>(from.cols)),
        vectors((batch.unique == 0 || vectorises(4, {to.word})) && vectorises(4, {to.position, to.type, from})) {}
};

constexpr int kSumThreads = 128;  // for a row

inline std::int64_t rows_of_tables(const EmbeddingTensors& to) {
  return to.word.rows + to.position.rows + to.type.rows - 1;
}

template <int V>
__device__ void add_row(float (&total)[V], const __half* row) {
  float x[V];
  load<V>(x, row);
#pragma unroll
  for (int j = 0; j < V; ++j) total[j] += x[j];
}

// Rows [0, U): the words; then the positions; then the types but the first, which stay zero. `first`: column.
template <int V>
__device__ void sum_tokens(const TokenSums& a, int u, int first) {
  const Sequences& of = a.sequences;
  const int place = u - of.unique, type = place - a.positions + 1;
  for (int c = first * V; c < a.cols; c += kSumThreads * V) {
    float total[V] = {};
    if (place < 0) {
      const int end = of.unique_offsets[u + 1];
#pragma unroll 8
      for (int i = of.unique_offsets[u]; i < end; ++i) add_row(total, a.dsum[of.occurrences[i]] + c);
      store<V>(a.dword[u] + c, total);
    } else if (type < 1) {
#pragma unroll 8
      for (int b = 0; b < of.count; ++b) {
        const int row = of.cu_seqlens[b] + place;
        if (row < of.cu_seqlens[b + 1]) add_row(total, a.dsum[row] + c);
      }
      store<V>(a.dposition[place] + c, total);
    } else {
      store<V>(a.dtype[type] + c, total);
    }
  }
}

}  // namespace ember
