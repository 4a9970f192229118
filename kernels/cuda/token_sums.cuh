// The sequences of a batch as kernels see them, and the gradients of the embedding tables: for each word of the batch
// the sum of its tokens' rows of dsum, for each position that of the rows there. DeferredGradients computes them beside
// its other sums: moves 4 N C bytes and writes 4 (U + P + T) C; 2 operations an element.
//
// A block has kTableRows rows of the tables and 32 V columns of each; a warp adds one row's tokens, in the order of the
// batch, or, where they are more than kAlone, as [CLS]' are in a large batch, all warps by turns and then what each of
// them has. So the order of the additions depends on nothing but the batch. Rows that lie side by side are in different
// blocks, since it is the first positions and the frequent words that have many tokens.
#pragma once

#include "kernels/cuda/row_sums.cuh"
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
  int positions, longest, cols;  // longest: of the sequences
  bool vectors;                  // of 4, by `vectorises`

  TokenSums() = default;
  TokenSums(const EmbeddingTensors& to, const Tensor& from, const Batch& batch)
      : dword(rows_of<float>(to.word)),
        dposition(rows_of<float>(to.position)),
        dtype(rows_of<float>(to.type)),
        dsum(rows_of<const __half>(from)),
        sequences(batch),
        positions(static_cast<int>(to.position.rows)),
        longest(static_cast<int>(batch.max_length)),
        cols(static_cast<int>(from.cols)),
        vectors((batch.unique == 0 || vectorises(4, {to.word})) && vectorises(4, {to.position, to.type, from})) {}

  // Row u of the tables: of [0, U) the words', then the positions', then the types' but the first, which stay zero.
  __device__ float* row(int u) const {
    const int place = u - sequences.unique, type = place - positions + 1;
    return place < 0 ? dword[u] : type < 1 ? dposition[place] : dtype[type];
  }
  // How many tokens it may have.
  __device__ int count(int u) const {
    if (u < sequences.unique) return sequences.unique_offsets[u + 1] - sequences.unique_offsets[u];
    return u - sequences.unique < longest ? sequences.count : 0;
  }
};

constexpr int kTableRows = kSumWarps, kAlone = 32;

inline std::int64_t rows_of_tables(const EmbeddingTensors& to) {
  return to.word.rows + to.position.rows + to.type.rows - 1;
}

// total += columns [c, c + V) of tokens first, first + step, ... of row u.
template <int V>
__device__ void add_tokens(float (&total)[V], const TokenSums& a, int u, int c, int first, int step) {
  const Sequences& of = a.sequences;
  if (u < of.unique) {
    const std::int32_t* tokens = of.occurrences + of.unique_offsets[u];
    add_rows<V>(total, first, step, a.count(u), [&](int i, float(&x)[V]) { load<V>(x, a.dsum[tokens[i]] + c); });
  } else {
    const int place = u - of.unique;
    add_rows<V>(total, first, step, a.count(u), [&](int i, float(&x)[V]) {
      const int token = of.cu_seqlens[i] + place;
      if (token < of.cu_seqlens[i + 1]) load<V>(x, a.dsum[token] + c);
    });
  }
}

inline unsigned token_blocks(const TokenSums& a, int rows) {
  return blocks_for(rows, kTableRows) * blocks_for(a.cols, kSumColumns<4> / (a.vectors ? 1 : 4));
}

// Of the tables' `rows`; adds what it writes to the squares. memory: kSumFloats<V>.
template <int V>
__device__ void sum_tokens(const TokenSums& a, int rows, int block, float* memory, float& squares) {
  const int parts = (a.cols + kSumColumns<V> - 1) / kSumColumns<V>, groups = (rows + kTableRows - 1) / kTableRows;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize, group = block / parts;
  const int begin = block % parts * kSumColumns<V>, c = begin + lane_index() * V;
  const auto row = [&](int w) { return w * groups + group; };
  unsigned together = 0;
#pragma unroll
  for (int w = 0; w < kTableRows; ++w)
    if (row(w) < rows && a.count(row(w)) > kAlone) together |= 1u << w;
  if (row(warp) < rows && (together >> warp & 1) == 0 && c < a.cols) {
    float total[V] = {};
    add_tokens<V>(total, a, row(warp), c, 0, 1);
    store<V>(a.row(row(warp)) + c, total);
#pragma unroll
    for (const float x : total) squares += x * x;
  }
  for (int w = 0; w < kTableRows; ++w) {
    if ((together >> w & 1) == 0) continue;
    float total[V] = {};
    if (c < a.cols) add_tokens<V>(total, a, row(w), c, warp, kSumWarps);
    write_block_sum<V>(a.row(row(w)) + begin, total, a.cols - begin, memory, squares);
    __syncthreads();  // before the next row's are left there
  }
}

}  // namespace ember
