#include "bench/shapes.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "runtime/philox.h"

namespace ember {
namespace {

constexpr std::int64_t kLabels = 28;
constexpr std::int64_t kShortest = 3;                             // a word between [CLS] and [SEP]
constexpr std::int32_t kCls = 101, kSep = 102, kFirstWord = 999;  // of bert-base-uncased

constexpr std::array<std::int64_t, 64> kLengthQuantiles{5,  6,  6,  7,  7,  7,  8,  8,  9,  9,  10, 10, 11, 11, 11, 12,
                                                        12, 13, 13, 14, 14, 14, 15, 15, 16, 16, 16, 17, 17, 18, 18, 18,
                                                        19, 19, 20, 20, 20, 21, 21, 22, 22, 23, 23, 24, 24, 24, 25, 25,
                                                        26, 26, 27, 27, 28, 29, 29, 30, 31, 31, 32, 32, 33, 34, 36, 38};

// Word i of the texts. By Zipf's law the logarithm of a word's rank is uniform; the exponent fits GoEmotions, whose
// frequent words are more frequent still.
std::int32_t word(std::uint64_t i, std::int64_t vocabulary) {
  constexpr double kTwo32 = 4294967296.0, kSteeper = 1.3;
  const double uniform = static_cast<double>(random_block(0, 0, 0, i / 4)[i % 4]) / kTwo32;
  const double rank = std::exp(std::pow(uniform, kSteeper) * std::log(static_cast<double>(vocabulary - kFirstWord)));
  return std::min(kFirstWord + static_cast<std::int32_t>(rank), static_cast<std::int32_t>(vocabulary - 1));
}

}  // namespace

BertConfig model_shape(std::string_view name) {
  BertConfig config;
  config.labels = anonymous_labels(kLabels);
  if (name == "tinybert") return config;
  check(name == "minilm" || name == "bert-base", "--shape {}: must be tinybert, minilm or bert-base", printable(name));
  const bool base = name == "bert-base";
  config.hidden = base ? 768 : 384;
  config.layers = base ? 12 : 6;
  config.ffn = 4 * config.hidden;
  return config;
}

std::int64_t text_length(std::int64_t i) {
  constexpr double kGolden = 0.6180339887498949;
  const double place = 0.5 + static_cast<double>(i) * kGolden;
  const double size = static_cast<double>(kLengthQuantiles.size());
  return kLengthQuantiles[static_cast<std::size_t>((place - std::floor(place)) * size)];
}

std::vector<std::int64_t> lengths_of_texts(std::int64_t texts) {
  std::vector<std::int64_t> lengths(static_cast<std::size_t>(texts));
  for (std::int64_t i = 0; i < texts; ++i) lengths[static_cast<std::size_t>(i)] = text_length(i);
  return lengths;
}

std::vector<std::int64_t> lengths_of_tokens(std::int64_t tokens) {
  std::vector<std::int64_t> lengths;
  std::int64_t left = tokens;
  for (std::int64_t i = 0; left > 0; ++i) {
    const std::int64_t length = text_length(i);
    // What would be left over is too short for a text of its own.
    lengths.push_back(left - length < kShortest ? left : length);
    left -= lengths.back();
  }
  return lengths;
}

Dataset synthetic_texts(const std::vector<std::int64_t>& lengths, std::int64_t vocabulary, std::int64_t label_count) {
  Dataset dataset;
  std::vector<std::int32_t> ids;
  std::uint64_t words = 0;
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    ids.assign(1, kCls);
    while (static_cast<std::int64_t>(ids.size()) < lengths[i] - 1) ids.push_back(word(words++, vocabulary));
    ids.push_back(kSep);
    const std::array<std::int32_t, 1> label{static_cast<std::int32_t>(i % static_cast<std::size_t>(label_count))};
    dataset.append(ids, label);
  }
  return dataset;
}

BatchSize size_of_batch(const Dataset& texts, std::int64_t first, std::int64_t rows) {
  BatchSize size;
  std::set<std::int32_t> ids;
  for (std::int64_t row = first; row < first + rows; ++row) {
    const auto length = static_cast<double>(texts.length(row));
    size.sequences += 1, size.tokens += length, size.pairs += length * length;
    size.max_length = std::max(size.max_length, length);
    for (const std::int32_t id : texts.tokens(row)) ids.insert(id);
  }
  size.unique = static_cast<double>(ids.size());
  return size;
}

}  // namespace ember
