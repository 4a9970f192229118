// Sequences of random tokens as the kernels' Batch, with everything it points to.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <random>
#include <utility>
#include <vector>

#include "kernels/batch.h"

namespace ember::testing {

class PackedSequences {
 public:
  static constexpr std::int32_t kPadding = 0;  // a token that gets no gradient

  PackedSequences(std::vector<std::int64_t> sequence_lengths, std::int64_t vocabulary, unsigned seed)
      : lengths(std::move(sequence_lengths)) {
    std::mt19937 generator(seed);
    std::map<std::int32_t, std::vector<std::int32_t>> rows_of;
    for (const std::int64_t length : lengths) {
      for (std::int64_t i = 0; i < length; ++i) {
        const auto token = static_cast<std::int32_t>(generator() % static_cast<std::uint32_t>(vocabulary));
        if (token != kPadding) rows_of[token].push_back(static_cast<std::int32_t>(tokens.size()));
        tokens.push_back(token);
      }
      cu_seqlens_.push_back(static_cast<std::int32_t>(tokens.size()));
      batch.max_length = std::max(batch.max_length, length);
    }
    for (const auto& [id, rows] : rows_of) {
      unique_ids.push_back(id);
      occurrences_.insert(occurrences_.end(), rows.begin(), rows.end());
      unique_offsets_.push_back(static_cast<std::int32_t>(occurrences_.size()));
    }
    batch.sequences = static_cast<std::int64_t>(lengths.size());
    batch.tokens = static_cast<std::int64_t>(tokens.size());
    batch.unique = static_cast<std::int64_t>(unique_ids.size());
    batch.token_ids = tokens.data();
    batch.cu_seqlens = cu_seqlens_.data();
    batch.unique_ids = unique_ids.data();
    batch.unique_offsets = unique_offsets_.data();
    batch.occurrences = occurrences_.data();
  }
  PackedSequences(const PackedSequences&) = delete;
  PackedSequences& operator=(const PackedSequences&) = delete;

  std::vector<std::int64_t> lengths;
  std::vector<std::int32_t> tokens, unique_ids;
  Batch batch;

 private:
  std::vector<std::int32_t> cu_seqlens_{0}, unique_offsets_{0}, occurrences_;
};

}  // namespace ember::testing
