// Short digests by which a resumed run recognises its data and its starting weights. They guard against mistakes, not
// against malice.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "data/dataset.h"
#include "data/examples.h"
#include "data/tokenizer.h"
#include "model/config.h"
#include "model/weights.h"
#include "runtime/fnv1a.h"

namespace ember {

// By FNV-1a.
class Digest {
 public:
  void add(const void* data, std::size_t bytes);
  template <typename T>
  void add(std::span<const T> values) {
    add(values.data(), values.size_bytes());
  }
  std::uint64_t value() const { return hash_; }
  std::string hex() const;

 private:
  std::uint64_t hash_ = kFnv1aStart;
};

// Of the vocabulary, the tokenised texts, their labels and the labels' names.
std::string data_fingerprint(const TokenizerSource& tokenizer, const Labels& labels, const Dataset& train,
                             const Dataset& dev);
// Of the configuration and every weight: of each parameter the digests of its pieces of 65,536 numbers, computed by so
// many threads, 0 for all.
std::string model_fingerprint(const BertConfig& config, const BertWeights& weights, Kernels& kernels, int threads = 1);

}  // namespace ember
