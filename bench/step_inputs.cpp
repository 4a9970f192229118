#include "bench/step_inputs.h"

#include <algorithm>

#include "bench/shapes.h"
#include "model/hugging_face.h"
#include "runtime/file.h"

namespace ember {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kMaxLength = 128;  // of a text of the data; train's default

// Tokens of letters and digits alone, which the tokenizer gives back as one token.
std::vector<std::string> whole_words(const std::vector<std::string>& tokens) {
  const auto plain = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  std::vector<std::string> words;
  for (const std::string& token : tokens)
    if (!token.empty() && std::all_of(token.begin(), token.end(), plain)) words.push_back(token);
  return words;
}

Vocabulary invented_vocabulary(std::int64_t size) {
  std::string lines = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";
  for (std::int64_t i = 5; i < size; ++i) lines += fmt::format("word{}\n", i);
  return Vocabulary(std::move(lines));
}

Labels labels_of(const BertConfig& config) {
  return Labels(config.labels.empty() ? model_shape("tinybert").labels : config.labels);
}

}  // namespace

StepInputs::StepInputs(const StepSource& source) : source_(source), real_lengths_("GoEmotions' lengths") {
  check(source.data.empty() || !source.model.empty(), "--data needs --model, whose vocabulary its texts are read with");
  config_ = source.model.empty() ? model_shape(source.shape) : read_config(source.model / kConfigFile);
  config_.labels = labels_of(config_).names();
  tokenizer_ =
      source.model.empty() ? TokenizerSource{invented_vocabulary(config_.vocabulary)} : tokenizer_of(source.model);
  words_ = whole_words(tokenizer_.vocabulary.tokens());
  check(!words_.empty(), "{}: a vocabulary without words", printable(tokenizer_.vocabulary.file().string()));
  check(config_.vocabulary >= 1024, "{}: a vocabulary of {} words is too small to measure with; 1024 are needed",
        printable((source.model / kConfigFile).string()), config_.vocabulary);
  if (!source.data.empty()) read_data(source.data);
}

void StepInputs::read_data(const fs::path& data) {
  require_directory(data, "--data");
  const Labels labels = Labels::read(data / "labels.txt");
  config_.labels = labels.names();
  const std::vector<Example> train = read_examples(find_split(data, "train"), labels);
  data_ = tokenize(train, Tokenizer(tokenizer_), std::min(kMaxLength, config_.positions));
  for (const Example& example : read_examples(find_split(data, "test"), labels)) test_texts_.push_back(example.text);
  real_lengths_ = fmt::format("lengths of {}", printable(data.string(), 4096));
}

Dataset StepInputs::real(std::int64_t texts) const {
  if (data_.size() == 0) return synthetic_texts(lengths_of_texts(texts), config_.vocabulary, config_.label_count());
  // In the order of an epoch of training.
  const std::vector<std::int64_t> order = permutation(data_.size(), 42, 0);
  Dataset dataset;
  for (std::int64_t i = 0; i < texts; ++i) {
    const std::int64_t from = order[static_cast<std::size_t>(i) % order.size()];
    dataset.append(data_.tokens(from), data_.labels(from));
  }
  return dataset;
}

Dataset StepInputs::fixed(std::int64_t texts, std::int64_t length) const {
  const std::vector<std::int64_t> lengths(static_cast<std::size_t>(texts), length);
  return synthetic_texts(lengths, config_.vocabulary, config_.label_count());
}

const fs::path& StepInputs::classifier_folder() {
  if (!classifier_folder_.empty()) return classifier_folder_;
  std::error_code ignored;
  const bool trained = !source_.model.empty() && fs::exists(source_.model / kWeightsFile, ignored);
  if (trained) return classifier_folder_ = source_.model;
  const fs::path& folder = scratch_.emplace("ember-bench-").path();
  write_file_atomically(folder / kVocabularyFile, tokenizer_.vocabulary.text());
  write_file_atomically(folder / kConfigFile, config_json(config_));
  const auto kernels = make_cpu_kernels();
  LoadOptions options;
  options.labels = Labels(config_.labels);
  options.from_scratch = true;
  const LoadedModel model = load_hugging_face(folder, *kernels, options);
  save_hugging_face(folder, model.config, model.weights, *kernels, tokenizer_);
  return classifier_folder_ = folder;
}

std::string StepInputs::text(std::int64_t tokens, std::int64_t i) const {
  std::string text;
  for (std::int64_t k = 0; k < tokens - 2; ++k) {
    const auto at = static_cast<std::size_t>(i * 7919 + k * 104729) % words_.size();
    text += (k == 0 ? "" : " ") + words_[at];
  }
  return text;
}

std::vector<std::string> StepInputs::texts(std::int64_t count) const {
  if (!test_texts_.empty()) {
    const auto some = std::min(static_cast<std::int64_t>(test_texts_.size()), count);
    return {test_texts_.begin(), test_texts_.begin() + some};
  }
  std::vector<std::string> texts;
  for (std::int64_t i = 0; i < count; ++i) texts.push_back(text(text_length(i), i));
  return texts;
}

}  // namespace ember
