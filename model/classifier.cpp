#include "model/classifier.h"

#include <algorithm>
#include <cmath>

#include "data/dataset.h"
#include "data/tokenizer.h"
#include "model/batches.h"
#include "model/bert.h"
#include "model/fine_tuned.h"

namespace ember {
// All buffers live here and are reused, so that a short text costs no more than its arithmetic.
struct Classifier::Implementation {
  Implementation(const std::filesystem::path& from, const ClassifierOptions& options)
      : directory(from),
        kernels(make_cpu_kernels(options.precision, options.threads)),
        model(load_fine_tuned(from, *kernels)),
        labels(model.config.labels),
        max_length(length_to_keep(options.max_length, model.config)),
        tokenizer(model.tokenizer),
        bert(model.config, model.weights, *kernels, Purpose::inference,
             {std::max(kBatchTokens, max_length), kBatchSequences}) {}

  template <typename Text>
  void predict(std::span<const Text> texts, std::span<Scores> scores);
  bool has_room(std::int64_t tokens) const;
  void clear();
  void run(std::span<Scores> scores);

  std::filesystem::path directory;
  std::unique_ptr<Kernels> kernels;
  LoadedModel model;
  Labels labels;
  std::int64_t max_length;
  Tokenizer tokenizer;
  Bert bert;

  std::vector<std::int32_t> ids;  // of the text at hand
  Dataset waiting;                // texts of the next batch
  Batches batches{*kernels, model.config, Batches::Targets::none};
};

bool Classifier::Implementation::has_room(std::int64_t tokens) const {
  return waiting.size() == 0 || (waiting.size() < kBatchSequences && waiting.offsets.back() + tokens <= kBatchTokens);
}

void Classifier::Implementation::clear() {
  waiting.token_ids.clear();
  waiting.offsets.resize(1);
  waiting.label_offsets.resize(1);
}

// Scores the waiting texts, of which there must be one.
void Classifier::Implementation::run(std::span<Scores> scores) {
  batches.take(waiting);
  const Batch batch = batches.next(waiting.size());
  const Tensor logits = bert.forward(batch);
  const Tensor probabilities = bert.loss(batch).probabilities;

  const auto count = static_cast<std::size_t>(labels.size());
  for (std::int64_t row = 0; row < waiting.size(); ++row) {
    Scores& of_text = scores[static_cast<std::size_t>(row)];
    of_text.probabilities.resize(count), of_text.logits.resize(count);
    kernels->download(of_text.probabilities.data(), probabilities.row(row), count * sizeof(float));
    kernels->download(of_text.logits.data(), logits.row(row), count * sizeof(float));
    for (const float logit : of_text.logits)
      if (!std::isfinite(logit))  // not check(), whose arguments would be made for every score
        fail("{}: the model gives a score of {}: its weights are damaged", directory.string(), logit);
  }
  clear();
}

template <typename Text>
void Classifier::Implementation::predict(std::span<const Text> texts, std::span<Scores> scores) {
  clear();  // an earlier call may have thrown half-way
  std::size_t done = 0;
  const auto run_waiting = [&] {
    const auto count = static_cast<std::size_t>(waiting.size());
    run(scores.subspan(done, count));
    done += count;
  };
  for (const Text& text : texts) {
    ids.clear();
    tokenizer.encode(text, max_length, ids);
    if (!has_room(static_cast<std::int64_t>(ids.size()))) run_waiting();
    waiting.append(ids, {});
  }
  if (waiting.size() > 0) run_waiting();
}

Classifier::Classifier(const std::filesystem::path& directory, const ClassifierOptions& options)
    : implementation_(std::make_unique<Implementation>(directory, options)) {}
Classifier::Classifier(Classifier&&) noexcept = default;
Classifier& Classifier::operator=(Classifier&&) noexcept = default;
Classifier::~Classifier() = default;

const Labels& Classifier::labels() const {
  return implementation_->labels;
}

std::vector<Scores> Classifier::predict(std::span<const std::string> texts) {
  std::vector<Scores> scores(texts.size());
  implementation_->predict(texts, scores);
  return scores;
}

Scores Classifier::predict(std::string_view text) {
  Scores scores;
  predict(text, scores);
  return scores;
}

void Classifier::predict(std::string_view text, Scores& scores) {
  implementation_->predict(std::span<const std::string_view>(&text, 1), std::span(&scores, 1));
}

}  // namespace ember
