#include "data/dataset.h"

#include <limits>
#include <numeric>
#include <utility>

#include "runtime/error.h"
#include "runtime/philox.h"

namespace ember {
namespace {

template <typename T>
std::span<const T> slice(const std::vector<T>& values, const std::vector<std::int64_t>& offsets, std::int64_t i) {
  const std::int64_t begin = offsets[static_cast<std::size_t>(i)], end = offsets[static_cast<std::size_t>(i) + 1];
  return std::span(values).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
}

template <typename T>
void append_all(std::vector<T>& to, std::span<const T> values) {
  to.insert(to.end(), values.begin(), values.end());
}

void append_offsets(std::vector<std::int64_t>& to, const std::vector<std::int64_t>& offsets) {
  const std::int64_t base = to.back();
  for (std::size_t i = 1; i < offsets.size(); ++i) to.push_back(base + offsets[i]);
}

// The words of one Philox stream, one after the other.
class PhiloxStream {
 public:
  PhiloxStream(std::uint64_t seed, Site site, std::uint32_t step)
      : seed_(seed), site_(static_cast<std::uint32_t>(site)), step_(step) {}

  std::uint32_t next_word() {
    if (used_ % 4 == 0) block_ = random_block(seed_, site_, step_, used_ / 4);
    return block_[used_++ % 4];
  }

  // Uniform on [0, range): the high half of word x range, with the few words refused that would favour some values.
  std::uint32_t below(std::uint32_t range) {
    const std::uint32_t refused = -range % range;  // 2^32 mod range
    std::uint64_t product;
    do product = std::uint64_t{next_word()} * range;
    while (static_cast<std::uint32_t>(product) < refused);
    return static_cast<std::uint32_t>(product >> 32);
  }

 private:
  std::uint64_t seed_;
  std::uint32_t site_, step_;
  std::uint64_t used_ = 0;
  PhiloxBlock block_{};
};

}  // namespace

std::span<const std::int32_t> Dataset::tokens(std::int64_t i) const {
  return slice(token_ids, offsets, i);
}

std::span<const std::int32_t> Dataset::labels(std::int64_t i) const {
  return slice(label_ids, label_offsets, i);
}

void Dataset::append(std::span<const std::int32_t> tokens, std::span<const std::int32_t> labels) {
  append_all(token_ids, tokens);
  append_all(label_ids, labels);
  offsets.push_back(static_cast<std::int64_t>(token_ids.size()));
  label_offsets.push_back(static_cast<std::int64_t>(label_ids.size()));
}

void Dataset::append(const Tokenizer& tokenizer, std::string_view text, std::int64_t max_length,
                     std::span<const std::int32_t> labels) {
  cut += tokenizer.encode(text, max_length, token_ids) ? 1 : 0;
  append({}, labels);
}

void Dataset::append(const Dataset& other) {
  append_all<std::int32_t>(token_ids, other.token_ids);
  append_all<std::int32_t>(label_ids, other.label_ids);
  append_offsets(offsets, other.offsets);
  append_offsets(label_offsets, other.label_offsets);
  cut += other.cut;
}

void Dataset::clear() {
  token_ids.clear(), label_ids.clear();
  offsets.resize(1), label_offsets.resize(1);
  cut = 0;
}

Dataset tokenize(std::span<const Example> examples, const Tokenizer& tokenizer, std::int64_t max_length, int threads) {
  Dataset dataset;
  std::vector<Dataset> parts;
  fill(dataset, parts, examples, threads, [&](Dataset& part, const Example& example) {
    part.append(tokenizer, example.text, max_length, example.labels);
  });
  return dataset;
}

std::vector<std::int64_t> permutation(std::int64_t size, std::uint64_t seed, std::uint32_t epoch) {
  check(size >= 0 && size <= std::numeric_limits<std::uint32_t>::max(), "a permutation of {} is not possible", size);
  std::vector<std::int64_t> order(static_cast<std::size_t>(size));
  std::iota(order.begin(), order.end(), 0);
  PhiloxStream stream(seed, Site::permutation, epoch);
  for (std::size_t i = order.size(); i > 1; --i)
    std::swap(order[i - 1], order[stream.below(static_cast<std::uint32_t>(i))]);
  return order;
}

}  // namespace ember
