#include "train/evaluation.h"

#include <algorithm>
#include <numeric>

#include "model/device_batch.h"
#include "runtime/error.h"

namespace ember {
namespace {

// The end of the batch that starts at sequence `begin`: as many as fit, and one at least.
std::int64_t batch_end(const Dataset& dataset, std::int64_t begin, std::int64_t batch_tokens) {
  std::int64_t end = begin, tokens = 0;
  while (end < dataset.size() && (end == begin || tokens + dataset.length(end) <= batch_tokens))
    tokens += dataset.length(end++);
  return end;
}

}  // namespace

Evaluation evaluate(Bert& model, Kernels& kernels, const BertConfig& config, const Dataset& dataset,
                    std::int64_t batch_tokens) {
  check(dataset.size() > 0, "there are no rows to evaluate");
  const auto labels = static_cast<std::size_t>(config.label_count());
  Evaluation evaluation;
  evaluation.probabilities.resize(static_cast<std::size_t>(dataset.size()) * labels);
  evaluation.targets.reserve(evaluation.probabilities.size());

  PackedBatch packed;
  DeviceBatch device_batch(kernels);
  std::vector<std::int64_t> indices;
  double weighted_loss = 0;
  for (std::int64_t begin = 0; begin < dataset.size();) {
    const std::int64_t end = batch_end(dataset, begin, batch_tokens);
    indices.resize(static_cast<std::size_t>(end - begin));
    std::iota(indices.begin(), indices.end(), begin);
    pack(dataset, indices, config.label_count(), config.pad_token_id, packed);
    const Batch batch = device_batch.load(packed, config.label_count());
    model.forward(batch);
    const Bert::Loss result = model.loss(batch);

    float loss = 0;
    kernels.download(&loss, result.loss.data, sizeof loss);
    weighted_loss += static_cast<double>(loss) * static_cast<double>(end - begin);
    kernels.download(evaluation.probabilities.data() + static_cast<std::size_t>(begin) * labels,
                     result.probabilities.data, indices.size() * labels * sizeof(float));
    evaluation.targets.insert(evaluation.targets.end(), packed.targets.begin(), packed.targets.end());
    begin = end;
  }
  evaluation.loss = weighted_loss / static_cast<double>(dataset.size());
  return evaluation;
}

}  // namespace ember
