// A tokenised data set, flat in memory, and the order in which training takes it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "data/examples.h"
#include "data/tokenizer.h"

namespace ember {

// Sequence i is token_ids[offsets[i] .. offsets[i + 1]) with the labels label_ids[label_offsets[i] .. ).
struct Dataset {
  std::vector<std::int32_t> token_ids;
  std::vector<std::int64_t> offsets{0};
  std::vector<std::int32_t> label_ids;
  std::vector<std::int64_t> label_offsets{0};

  std::int64_t size() const { return static_cast<std::int64_t>(offsets.size()) - 1; }
  std::int64_t length(std::int64_t i) const {
    return offsets[static_cast<std::size_t>(i) + 1] - offsets[static_cast<std::size_t>(i)];
  }
  std::span<const std::int32_t> tokens(std::int64_t i) const;
  std::span<const std::int32_t> labels(std::int64_t i) const;
  void append(std::span<const std::int32_t> tokens, std::span<const std::int32_t> labels);
  void append(const Dataset& other);
  void clear();  // keeps the memory
};

// Tokenises with thread_count(threads) threads (runtime/shares.h); the result does not depend on their number.
Dataset tokenize(std::span<const Example> examples, const Tokenizer& tokenizer, std::int64_t max_length,
                 int threads = 0);

// The order of an epoch: a permutation of [0, size), a function of (size, seed, epoch) alone. Fisher-Yates from the
// back; its bounded integers by Lemire, "Fast random integer generation in an interval" (TOMACS 2019), without bias,
// from the words of Philox stream (seed, Site::permutation, epoch) in order. size < 2^32.
std::vector<std::int64_t> permutation(std::int64_t size, std::uint64_t seed, std::uint32_t epoch);

}  // namespace ember
