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

constexpr std::size_t kTextsAtOnce = 512;   // in memory as tokens
constexpr std::int64_t kRowsTogether = 64;  // through the model's end: enough for products at full speed

}  // namespace

// All buffers live here and are reused, so that a short text costs no more than its arithmetic.
struct Classifier::Implementation {
  Implementation(const std::filesystem::path& from, const ClassifierOptions& options)
      : directory(from),
        threads(thread_count(options.threads)),
        kernels(make_cpu_kernels(options.precision, options.threads)),
        model(load_hugging_face(from, *kernels)),
        labels(model.config.labels),
        max_length(length_to_keep(options.max_length, model)),
        limits(scoring_limits(*kernels, max_length)),
        tokenizer(model.tokenizer),
        bert(model.config, model.weights, *kernels, Purpose::inference, limits) {}

  template <typename Text>
  void predict(std::span<const Text> texts, std::span<Scores> scores);
  std::int64_t run(std::span<Scores> scores);
  void fetch(std::span<Scores> scores, Tensor logits, Tensor probabilities);

  std::filesystem::path directory;
  int threads;
  std::unique_ptr<Kernels> kernels;
  LoadedModel model;
  Labels labels;
  std::int64_t max_length, cut = 0;
  BatchLimits limits;
  Tokenizer tokenizer;
  Bert bert;

  Dataset tokenised;           // texts at hand
  std::vector<Dataset> parts;  // of threads, on the way there
  Batches batches{*kernels, model.config, Batches::Targets::none};
};

// Scores as many of the next texts at hand as go through the model's end together, and returns their number. `scores`
// are those of all that are left.
std::int64_t Classifier::Implementation::run(std::span<Scores> scores) {
  Batch batch;
  std::int64_t rows = 0;
  while (rows < std::min(kRowsTogether, std::ssize(scores))) {
    const std::int64_t within = rows_within(tokenised, tokenised.size() - batches.left(), limits);
    batch = batches.next(std::min(limits.sequences - rows, within));
    bert.encode(batch, rows);
    rows += batch.sequences;
  }
  const Tensor logits = bert.classify(rows);
  fetch(scores.first(static_cast<std::size_t>(rows)), logits, bert.loss(batch).probabilities);
  return rows;
}

void Classifier::Implementation::fetch(std::span<Scores> scores, Tensor logits, Tensor probabilities) {
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
    fill(tokenised, parts, texts.first(some), threads,
         [this](Dataset& part, const Text& text) { part.append(tokenizer, text, max_length, {}); });
    cut += tokenised.cut;
    batches.take(tokenised);
    for (std::span<Scores> left = scores.first(some); !left.empty();)
      left = left.subspan(static_cast<std::size_t>(run(left)));
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

std::int64_t Classifier::max_length() const {
  return implementation_->max_length;
}

std::int64_t Classifier::cut() const {
  return implementation_->cut;
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
