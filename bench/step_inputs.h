// What bench_step measures with: a model folder, batches of token ids, and texts.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "data/tokenizer.h"
#include "model/config.h"
#include "runtime/file.h"

namespace ember {

// Where they come from. Without `model`: a model of `shape` (bench/shapes.h) with random weights and words of its own.
// Without `data`: texts of random words with the lengths of shapes.h.
struct StepSource {
  std::string shape = "tinybert";
  std::filesystem::path model;  // a folder with config.json and vocab.txt; weights are drawn where it has none
  std::filesystem::path data;   // a folder as `train` takes it; needs `model`
};

class StepInputs {
 public:
  // Error as the readers of data/ and model/ report it.
  explicit StepInputs(const StepSource& source);
  StepInputs(const StepInputs&) = delete;
  StepInputs& operator=(const StepInputs&) = delete;

  const BertConfig& config() const { return config_; }
  // "GoEmotions' lengths", or the data folder.
  const std::string& real_lengths() const { return real_lengths_; }
  // At least `texts` texts of real lengths, or of just `length` tokens each; from the start again where the data end.
  Dataset real(std::int64_t texts) const;
  Dataset fixed(std::int64_t texts, std::int64_t length) const;

  // A folder that Classifier opens; it is written the first time that it is asked for where the model has no weights.
  const std::filesystem::path& classifier_folder();
  // A text of `tokens` tokens (3 or more), [CLS] and [SEP] counted; number `i` of many.
  std::string text(std::int64_t tokens, std::int64_t i) const;
  // `count` texts of real lengths; those of the data's test split where there are data (fewer if it has fewer).
  std::vector<std::string> texts(std::int64_t count) const;

 private:
  void read_data(const std::filesystem::path& data);

  StepSource source_;
  BertConfig config_;
  TokenizerSource tokenizer_;
  std::string real_lengths_;
  Dataset data_;                         // empty without --data
  std::vector<std::string> test_texts_;  // likewise
  std::vector<std::string> words_;       // of the vocabulary, each one token
  std::optional<TemporaryDirectory> scratch_;
  std::filesystem::path classifier_folder_;
};

}  // namespace ember
