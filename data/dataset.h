// A tokenised data set, flat in memory, and the packed batches cut from it.
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
};

// Tokenises with `threads` threads (0: one per processor); the result does not depend on their number.
Dataset tokenize(std::span<const Example> examples, const Tokenizer& tokenizer, std::int64_t max_length,
                 int threads = 0);

// The arrays behind kernels' Batch (kernels/batch.h says what each holds), reused from batch to batch.
struct PackedBatch {
  std::vector<std::int32_t> token_ids;          // (N)
  std::vector<std::int32_t> cu_seqlens{0};      // (B + 1)
  std::vector<std::int32_t> unique_ids;         // (U)
  std::vector<std::int32_t> unique_offsets{0};  // (U + 1)
  std::vector<std::int32_t> occurrences;        // tokens other than padding_id
  std::vector<float> targets;                   // (B, K) multi-hot
  std::int64_t max_length = 0;

  std::int64_t sequences() const { return static_cast<std::int64_t>(cu_seqlens.size()) - 1; }
  std::int64_t tokens() const { return static_cast<std::int64_t>(token_ids.size()); }

 private:
  friend void pack(const Dataset&, std::span<const std::int64_t>, std::int64_t, std::int32_t, PackedBatch&);
  std::vector<std::int64_t> order_;  // scratch
};

// Sequences `indices` of `dataset`, in that order, end to end, with their targets over `label_count` labels. Allocates
// nothing once `batch` has held one as large in sequences, tokens and labels. Error for an index or a label out of
// range, or 2^31 tokens and more.
void pack(const Dataset& dataset, std::span<const std::int64_t> indices, std::int64_t label_count,
          std::int32_t padding_id, PackedBatch& batch);

// The order of an epoch: a permutation of [0, size), a function of (size, seed, epoch) alone. Fisher-Yates from the
// back; its bounded integers by Lemire, "Fast random integer generation in an interval" (TOMACS 2019), without bias,
// from the words of Philox stream (seed, Site::permutation, epoch) in order. size < 2^32.
std::vector<std::int64_t> permutation(std::int64_t size, std::uint64_t seed, std::uint32_t epoch);

}  // namespace ember
