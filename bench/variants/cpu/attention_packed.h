// Attention, rung 2: the batch is packed, so that padding does not exist: a query has the keys of its own sequence and
// no others. The loops are those of rung 1. And since a query needs no other query's probabilities, one row of them at
// a time is all that exists.
//
// It should buy what the lengths say: the mean of L² over the square of the longest, and with it the traffic of the
// probabilities, which now stay in the first-level cache.
#pragma once

#include "bench/variants/cpu/attention_padded.h"

namespace ember::variants {

inline void attention_packed(const AttentionCall& a) {
  const std::int64_t dim = a.query.cols / a.heads;
  std::vector<float> p(static_cast<std::size_t>(a.batch.max_length));
  for (std::int64_t b = 0; b < a.batch.sequences; ++b) {
    const std::int64_t first = a.batch.cu_seqlens[b], length = a.batch.cu_seqlens[b + 1] - first;
    for (std::int64_t h = 0; h < a.heads; ++h)
      for (std::int64_t query = first; query < first + length; ++query) {
        naive_scores(p.data(), a, query, h, first, length, length);
        naive_softmax(p.data(), a, query, h, length);
        naive_values(a.out.row(query) + h * dim, p.data(), a, h, first, length, length);
      }
  }
}

}  // namespace ember::variants
