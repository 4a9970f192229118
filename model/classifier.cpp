#include "model/classifier.h"

#include <algorithm>
#include <cmath>

#include "data/dataset.h"
#include "data/tokenizer.h"
#include "model/batches.h"
#include "model/bert.h"
#include "model/fine_tuned.h"
#include "model/hugging_face.h"
#include "runtime/shares.h"

namespace ember {
namespace {

constexpr std::size_t kTextsAtOnce = 512;  // in memory as tokens

}  // namespace

// All buffers live here and are reused, so that a short text costs no more than its arithmetic.
struct Classifier::Implementation {
  Implementation(const std::filesystem::path& from, const ClassifierOptions& options)
      : directory(from),
        threads(thread_count(options.threads)),
        kernels(make_cpu_kernels(options.precision, options.threads)),
        model(load_hugging_face(from, *kernels)),
        labels(model.config.labels),
        max_length(length_to_keep(options.max_length, model.config)),
        limits{std::max(kernels->tokens_at_once(), max_length), kBatchSequences},
        tokenizer(model.tokenizer),
        bert(model.config, model.weights, *kernels, Purpose::inference, limits) {}

  template <typename Text>
  void predict(std::span<const Text> texts, std::span<Scores> scores);
  void run(std::span<Scores> scores);

  std::filesystem::path directory;
  int threads;
  std::unique_ptr<Kernels> kernels;
  LoadedModel model;
  Labels labels;
  std::int64_t max_length;
  BatchLimits limits;
  Tokenizer tokenizer;
  Bert bert;

  Dataset tokenised;           // texts at hand
  std::vector<Dataset> parts;  // of threads, on the way there
  Batches batches{*kernels, model.config, Batches::Targets::none};
};

// Scores the next texts of those at hand.
void Classifier::Implementation::run(std::span<Scores> scores) {
  const Batch batch = batches.next(std::ssize(scores));
  const Tensor logits = bert.forward(batch);
  const Tensor probabilities = bert.loss(batch).probabilities;

  const auto count = static_cast<std::size_t>(labels.size());
  for (std::size_t row = 0; row < scores.size(); ++row) {
    Scores& of_text = scores[row];
    of_text.probabilities.resize(count), of_text.logits.resize(count);
    const auto r = static_cast<std::int64_t>(row);
    kernels->download(of_text.probabilities.data(), probabilities.row(r), count * sizeof(float));
    kernels->download(of_text.logits.data(), logits.row(r), count * sizeof(float));
    for (const float logit : of_text.logits)
      if (!std::isfinite(logit))  // not check(), whose arguments would be made for every score
        fail("{}: the model gives a score of {}: its weights are damaged", directory.string(), logit);
  }
}

template <typename Text>
void Classifier::Implementation::predict(std::span<const Text> texts, std::span<Scores> scores) {
  while (!texts.empty()) {
    const std::size_t some = std::min(kTextsAtOnce, texts.size());
    // Before the first is scored, since the vocabulary leaves the caches with every batch's weights.
    fill(tokenised, parts, texts.first(some), threads, [this](Dataset& part, const Text& text) {
      tokenizer.encode(text, max_length, part.token_ids);
      part.append({}, {});
    });
    batches.take(tokenised);
    for (std::int64_t done = 0; done < tokenised.size();) {
      const std::int64_t count = rows_within(tokenised, done, limits);
      run(scores.subspan(static_cast<std::size_t>(done), static_cast<std::size_t>(count)));
      done += count;
    }
    texts = texts.subspan(some), scores = scores.subspan(some);
  }
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
