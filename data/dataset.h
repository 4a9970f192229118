// A tokenised data set, flat in memory, and the order in which training takes it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "data/examples.h"
#include "data/tokenizer.h"
#include "runtime/shares.h"

namespace ember {

// Sequence i is token_ids[offsets[i] .. offsets[i + 1]) with the labels label_ids[label_offsets[i] .. ).
struct Dataset {
  std::vector<std::int32_t> token_ids;
  std::vector<std::int64_t> offsets{0};
  std::vector<std::int32_t> label_ids;
  std::vector<std::int64_t> label_offsets{0};
  std::int64_t cut = 0;  // sequences whose texts have more tokens

  std::int64_t size() const { return static_cast<std::int64_t>(offsets.size()) - 1; }
  std::int64_t length(std::int64_t i) const {
    return offsets[static_cast<std::size_t>(i) + 1] - offsets[static_cast<std::size_t>(i)];
  }
  std::span<const std::int32_t> tokens(std::int64_t i) const;
  std::span<const std::int32_t> labels(std::int64_t i) const;
  void append(std::span<const std::int32_t> tokens, std::span<const std::int32_t> labels);
  // A text's tokens, of which max_length are kept (Tokenizer::encode, whose errors these are).
  void append(const Tokenizer& tokenizer, std::string_view text, std::int64_t max_length,
              std::span<const std::int32_t> labels);
  void append(const Dataset& other);
  void clear();  // keeps the memory
};

// Makes `to` the data set of `items`, in order, by thread_count(threads) threads: append(dataset, item) adds one at the
// end. What `to` held goes; its memory and that of `parts` are used again, and a single thread allocates nothing else.
template <typename Item, typename Append>
void fill(Dataset& to, std::vector<Dataset>& parts, std::span<const Item> items, int threads, const Append& append) {
  constexpr std::size_t kLeastOfThread = 64;
  const auto append_all = [&](Dataset& part, std::span<const Item> some) {
    part.clear();  // an earlier call may have thrown half-way
    for (const Item& item : some) append(part, item);
  };
  const std::size_t count = count_shares(threads, items.size(), kLeastOfThread);
  if (count == 1) return append_all(to, items);
  parts.resize(std::max(parts.size(), count - 1));
  in_shares(count, items.size(), [&](std::size_t share, std::size_t begin, std::size_t end) {
    append_all(share == 0 ? to : parts[share - 1], items.subspan(begin, end - begin));
  });
  for (const Dataset& part : std::span(parts).first(count - 1)) to.append(part);
}

// Tokenises with thread_count(threads) threads (runtime/shares.h); the result does not depend on their number.
Dataset tokenize(std::span<const Example> examples, const Tokenizer& tokenizer, std::int64_t max_length,
                 int threads = 0);

// The order of an epoch: a permutation of [0, size), a function of (size, seed, epoch) alone. Fisher-Yates from the
// back; its bounded integers by Lemire, "Fast random integer generation in an interval" (TOMACS 2019), without bias,
// from the words of Philox stream (seed, Site::permutation, epoch) in order. size < 2^32.
std::vector<std::int64_t> permutation(std::int64_t size, std::uint64_t seed, std::uint32_t epoch);

}  // namespace ember
