// A model and a data set small enough to train in a blink, written from nothing: a hundred one-word tokens, four
// labels, and texts in which each label has words of its own.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>

#include "model/config.h"
#include "train/options.h"

namespace ember::testing {

constexpr int kTinyVocabulary = 100, kTinyLabels = 4;

inline BertConfig tiny_config() {
  BertConfig config;
  config.vocabulary = kTinyVocabulary, config.hidden = 32, config.layers = 2, config.heads = 4, config.ffn = 48;
  config.positions = 24;
  config.labels = {"anger", "fear", "joy", "love"};
  return config;
}

// A small generator of its own, so that the data are the same everywhere.
struct TinyRandom {
  std::uint64_t state;
  int below(int limit) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<int>((state >> 33) % static_cast<std::uint64_t>(limit));
  }
};

inline void write_tiny_model(const std::filesystem::path& directory) {
  std::filesystem::create_directories(directory);
  std::ofstream(directory / "config.json") << config_json(tiny_config());
  std::ofstream vocabulary(directory / "vocab.txt");
  vocabulary << "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";
  for (int i = 5; i < kTinyVocabulary; ++i) vocabulary << "word" << i << "\n";
}

inline void write_tiny_split(const std::filesystem::path& file, int rows, std::uint64_t seed) {
  TinyRandom random{seed};
  std::ofstream out(file);
  for (int row = 0; row < rows; ++row) {
    const int label = random.below(kTinyLabels);
    out << "word" << 5 + label;
    // Later rows know fewer words, so that rows of the word embedding rest for long.
    for (int i = random.below(12); i > 0; --i) out << " word" << 9 + random.below(kTinyVocabulary - 9 - row % 50);
    out << "\t" << label << "\tid" << row << "\n";
  }
}

inline void write_tiny_data(const std::filesystem::path& directory) {
  std::filesystem::create_directories(directory);
  std::ofstream(directory / "labels.txt") << "anger\nfear\njoy\nlove\n";
  write_tiny_split(directory / "train.tsv", 62, 1);
  write_tiny_split(directory / "dev.tsv", 20, 2);
}

// 16 steps an epoch (the last of 2 texts), 48 in all.
inline TrainOptions tiny_options(const std::filesystem::path& root, const std::string& out) {
  TrainOptions options;
  options.model = root / "model", options.data = root / "data", options.out = root / out;
  options.recipe.epochs = 3, options.recipe.batch_size = 4, options.recipe.learning_rate = 3e-3;
  options.recipe.max_length = 16;
  options.threads = 1, options.from_scratch = true;
  return options;
}

}  // namespace ember::testing
