#include "train/evaluation.h"

#include <algorithm>

#include "runtime/error.h"

namespace ember {
namespace {

std::int64_t rows_of_batch(const Dataset& dataset, std::int64_t first, std::int64_t batch_tokens) {
  return rows_within(dataset, first, {batch_tokens, dataset.size()});
}

std::vector<float> targets_of(const Dataset& dataset, std::int64_t label_count) {
  std::vector<float> targets(static_cast<std::size_t>(dataset.size() * label_count));
  for (std::int64_t row = 0; row < dataset.size(); ++row)
    for (const std::int32_t label : dataset.labels(row))
      targets[static_cast<std::size_t>(row * label_count + label)] = 1;
  return targets;
}

}  // namespace

BatchLimits evaluation_limits(const Kernels& kernels, const BertConfig& config, const Dataset& dataset,
                              std::int64_t batch_tokens) {
  BatchLimits limits;
  for (std::int64_t begin = 0; begin < dataset.size();) {
    const std::int64_t count = rows_of_batch(dataset, begin, batch_tokens);
    const BatchShape shape = kernels.batch_shape(exact_shape(dataset, {}, begin, count), config.positions);
    begin += count;
    limits = {std::max(limits.tokens, shape.tokens), std::max(limits.sequences, shape.sequences)};
  }
  return limits;
}

Evaluation evaluate(Bert& model, Kernels& kernels, const BertConfig& config, const Dataset& dataset,
                    std::int64_t batch_tokens) {
  check(dataset.size() > 0, "there are no rows to evaluate");
  const std::int64_t labels = config.label_count();
  const BatchLimits limits = evaluation_limits(kernels, config, dataset, batch_tokens);
  Batches batches(kernels, config, dataset);
  batches.reserve(limits);
  // The scores of a batch are followed by those of its filling, which the next batch's replace.
  const std::int64_t most = dataset.size() + limits.sequences;
  const Buffer probabilities = kernels.allocate(static_cast<std::size_t>(most * labels) * sizeof(float));
  const Buffer losses = kernels.allocate(static_cast<std::size_t>(dataset.size()) * sizeof(float));
  std::vector<std::int64_t> counts;
  for (std::int64_t begin = 0; begin < dataset.size(); begin += counts.back()) {
    float* loss = losses.f32() + counts.size();
    counts.push_back(rows_of_batch(dataset, begin, batch_tokens));
    const Batch batch = batches.next(counts.back());
    model.forward(batch);
    model.loss(batch, nullptr,
               {vector(loss, 1), matrix(probabilities.f32() + begin * labels, batch.sequences, labels)});
  }

  Evaluation evaluation;
  evaluation.targets = targets_of(dataset, labels);
  evaluation.probabilities.resize(evaluation.targets.size());
  kernels.download(evaluation.probabilities.data(), probabilities.data(),
                   evaluation.probabilities.size() * sizeof(float));
  std::vector<float> loss(counts.size());
  kernels.download(loss.data(), losses.data(), loss.size() * sizeof(float));
  for (std::size_t b = 0; b < loss.size(); ++b)
    evaluation.loss += static_cast<double>(loss[b]) * static_cast<double>(counts[b]);
  evaluation.loss /= static_cast<double>(dataset.size());
  return evaluation;
}

}  // namespace ember
