// Attention, rung 1: as the formula stands for a padded batch (Vaswani et al. 2017, section 3.2). All sequences have
// the length of the longest; scores, then probabilities, of all heads lie in memory as (B, H, L, L); a mask of minus
// infinity takes the padding out again. One thread, plain loops.
//
// The operands are packed, so what would be a row of padding is read from the last row of its sequence: the same
// arithmetic and traffic without a copy. Rows of padding are computed and not stored.
//
// What is slow: L² of the longest instead of L² of each sequence (3.7 times as much in bench_variants), a dot product
// whose additions wait for each other, and 4 B H L² bytes that three passes go over.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "bench/variants/cpu/naive_dropout.h"
#include "bench/variants/ladder.h"
#include "runtime/ceil_div.h"

namespace ember::variants {

// scores = q kᵀ / sqrt(D) for one query and `length` keys from row `first` on, those past `real` read as the last one.
inline void naive_scores(float* scores, const AttentionCall& a, std::int64_t query, std::int64_t head,
                         std::int64_t first, std::int64_t real, std::int64_t length) {
  const std::int64_t dim = a.query.cols / a.heads;
  const float* q = a.query.row(query) + head * dim;
  for (std::int64_t j = 0; j < length; ++j) {
    const float* k = a.key.row(first + std::min(j, real - 1)) + head * dim;
    float sum = 0;
    for (std::int64_t d = 0; d < dim; ++d) sum += q[d] * k[d];
    scores[j] = j < real ? sum / std::sqrt(static_cast<float>(dim)) : -std::numeric_limits<float>::infinity();
  }
}

// Softmax in place, then dropout; `query` is the row among the tokens (Kernels::attention_forward numbers the stream).
inline void naive_softmax(float* p, const AttentionCall& a, std::int64_t query, std::int64_t head,
                          std::int64_t length) {
  const float largest = *std::max_element(p, p + length);
  float sum = 0;
  for (std::int64_t j = 0; j < length; ++j) sum += p[j] = std::exp(p[j] - largest);
  const std::int64_t first = (query * a.heads + head) * round_up(a.positions, 4);
  for (std::int64_t j = 0; j < length; ++j) p[j] = p[j] / sum * multiplier(a.dropout, first + j);
}

// out = p v.
inline void naive_values(float* out, const float* p, const AttentionCall& a, std::int64_t head, std::int64_t first,
                         std::int64_t real, std::int64_t length) {
  const std::int64_t dim = a.query.cols / a.heads;
  std::fill_n(out, dim, 0.0f);
  for (std::int64_t j = 0; j < length; ++j) {
    const float* v = a.value.row(first + std::min(j, real - 1)) + head * dim;
    for (std::int64_t d = 0; d < dim; ++d) out[d] += p[j] * v[d];
  }
}

inline void attention_padded(const AttentionCall& a, std::vector<float>& p) {
  const std::int64_t longest = a.batch.max_length;
  p.resize(static_cast<std::size_t>(a.batch.sequences * a.heads * longest * longest));
  const auto for_each_row =
      [&](const auto& visit) {  // visit(probabilities, first, length, head, query of the sequence)
        float* row = p.data();
        for (std::int64_t b = 0; b < a.batch.sequences; ++b)
          for (std::int64_t h = 0; h < a.heads; ++h)
            for (std::int64_t i = 0; i < longest; ++i, row += longest)
              visit(row, a.batch.cu_seqlens[b], a.batch.cu_seqlens[b + 1] - a.batch.cu_seqlens[b], h, i);
      };
  for_each_row([&](float* row, std::int64_t first, std::int64_t length, std::int64_t h, std::int64_t i) {
    naive_scores(row, a, first + std::min(i, length - 1), h, first, length, longest);
  });
  for_each_row([&](float* row, std::int64_t first, std::int64_t, std::int64_t h, std::int64_t i) {
    naive_softmax(row, a, first + i, h, longest);
  });
  const std::int64_t dim = a.query.cols / a.heads;
  std::vector<float> padding(static_cast<std::size_t>(dim));
  for_each_row([&](float* row, std::int64_t first, std::int64_t length, std::int64_t h, std::int64_t i) {
    float* out = i < length ? a.out.row(first + i) + h * dim : padding.data();
    naive_values(out, row, a, h, first, length, longest);
  });
}

}  // namespace ember::variants
