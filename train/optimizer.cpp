#include "train/optimizer.h"

#include <algorithm>
#include <cmath>

namespace ember {
namespace {

constexpr std::size_t kWord = 0;  // the word embedding's place in BertWeights::list

std::int32_t* i32(const Buffer& buffer) {
  return static_cast<std::int32_t*>(buffer.data());
}

std::vector<Tensor> values(const std::vector<Parameter>& list) {
  std::vector<Tensor> result;
  result.reserve(list.size());
  for (const Parameter& parameter : list) result.push_back(parameter.value);
  return result;
}

}  // namespace

Optimizer::Optimizer(const BertConfig& config, BertWeights& weights, Kernels& kernels, const AdamWOptions& options,
                     std::int64_t expected_steps)
    : config_(config),
      weights_(weights),
      kernels_(kernels),
      options_(options),
      first_(config, kernels),
      second_(config, kernels),
      row_updates_(kernels.allocate(static_cast<std::size_t>(config.vocabulary) * sizeof(std::int32_t))),
      padding_id_(kernels.allocate(sizeof(std::int32_t))),
      norm_(kernels.allocate(sizeof(float))) {
  kernels_.upload(padding_id_.data(), &config.pad_token_id, sizeof(std::int32_t));
  history_.reserve(static_cast<std::size_t>(std::min<std::int64_t>(expected_steps, 1 << 20)));
}

void Optimizer::catch_up(const Batch& batch) {
  const AdamWTensors word = tensors(kWord);
  kernels_.adamw_replay(word, batch.unique_ids, batch.unique, i32(row_updates_), history_);
  // Not among the unique ids, yet a text may spell [PAD] out.
  kernels_.adamw_replay(word, i32(padding_id_), 1, i32(row_updates_), history_);
}

void Optimizer::catch_up() {
  kernels_.adamw_replay(tensors(kWord), nullptr, config_.vocabulary, i32(row_updates_), history_);
}

float Optimizer::step(const Bert& model, const Batch& batch, double learning_rate) {
  bind(model, batch);
  const Tensor norm = vector(norm_.data(), 1);
  kernels_.gradient_norm(norm, gradients_);
  float host_norm = 0;
  kernels_.download(&host_norm, norm_.data(), sizeof host_norm);
  if (!std::isfinite(host_norm)) return host_norm;

  const auto done = static_cast<std::int32_t>(steps());
  const auto max_norm = static_cast<float>(options_.max_norm);
  const AdamWUpdate decayed = adamw_update(options_, learning_rate, done + 1, true);
  const AdamWUpdate plain = adamw_update(options_, learning_rate, done + 1, false);
  kernels_.adamw_rows(tensors(kWord), batch.unique_ids, gradients_[kWord], i32(row_updates_), done, decayed, norm,
                      max_norm);
  for (std::size_t i = kWord + 1; i < gradients_.size(); ++i)
    kernels_.adamw(tensors(i), gradients_[i], weights_.list[i].decayed ? decayed : plain, norm, max_norm);
  history_.push_back(decayed);
  return host_norm;
}

void Optimizer::resume_after(std::int64_t steps) {
  // Every row is current, so what the history says of the past is never read: only its length counts.
  history_.resize(static_cast<std::size_t>(steps));
  const std::vector<std::int32_t> current(static_cast<std::size_t>(config_.vocabulary),
                                          static_cast<std::int32_t>(steps));
  kernels_.upload(row_updates_.data(), current.data(), current.size() * sizeof(std::int32_t));
}

// Takes the views of gradients and working copies again when the model has moved them; only the word embedding's
// gradient changes from batch to batch.
void Optimizer::bind(const Bert& model, const Batch& batch) {
  const BertTensors& gradients = model.gradients();
  if (gradients_.empty() || gradients_[kWord].data != gradients.embeddings.word.data ||
      gradients_.back().data != gradients.classifier_bias.data) {
    gradients_ = values(parameters(config_, gradients));
    working_.clear();
    if (model.has_working_copy()) working_ = values(parameters(config_, model.working()));
  }
  gradients_[kWord] = gradients.embeddings.word.row_block(0, batch.unique);
}

AdamWTensors Optimizer::tensors(std::size_t i) const {
  return {weights_.list[i].value, first_.list[i].value, second_.list[i].value,
          working_.empty() ? Tensor{} : working_[i]};
}

}  // namespace ember
