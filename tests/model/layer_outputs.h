// What the layers of an encoder give, for tests that compare more than logits.
//
// Bert computes only the [CLS] rows of its last layer, and its activations are its own. Neither has to change: the
// outputs are seen from the kernels' side, where every layer ends in a LayerNorm, and a last layer is computed on all
// rows as soon as it is not the last, so deepened() puts a layer of zeros behind it.
#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "kernels/cpu/cpu_kernels.h"
#include "model/bert.h"
#include "model/config.h"
#include "model/weights.h"

namespace ember::testing {

// CPU kernels that keep what the LayerNorms of the layers give, and may be told what the embeddings give.
class WatchedKernels final : public CpuKernels {
 public:
  explicit WatchedKernels(int threads) : CpuKernels(Precision::fp32, threads) {}

  std::optional<std::vector<float>> embedding_output;  // (N, C), in place of the model's own
  std::vector<std::vector<float>> norms;               // of each layer two: after attention, after the FFN

  void embeddings_forward(Tensor out, Tensor sum, Moments moments, const Batch& batch, const EmbeddingTensors& tables,
                          const LayerNormTensors& norm, float epsilon, const Dropout& dropout) override {
    if (!embedding_output) {
      CpuKernels::embeddings_forward(out, sum, moments, batch, tables, norm, epsilon, dropout);
      return;
    }
    check(static_cast<std::int64_t>(embedding_output->size()) == out.size(), "an embedding output of another size");
    std::copy(embedding_output->begin(), embedding_output->end(), out.f32());
  }

  void residual_layernorm_forward(Tensor out, Tensor sum, Moments moments, Tensor in, Tensor bias, Tensor residual,
                                  const LayerNormTensors& norm, float epsilon, const Dropout& dropout) override {
    CpuKernels::residual_layernorm_forward(out, sum, moments, in, bias, residual, norm, epsilon, dropout);
    norms.emplace_back(out.f32(), out.f32() + out.size());
  }
};

struct DeepenedModel {
  BertConfig config;
  BertWeights weights;
};

// The same model with a layer of zeros behind its last.
inline DeepenedModel deepened(BertConfig config, const BertWeights& weights, Kernels& kernels) {
  ++config.layers;
  BertWeights deeper(config, kernels);
  for (const Parameter& from : weights.list)
    for (const Parameter& to : deeper.list)
      if (to.name == from.name) std::copy_n(from.value.f32(), from.value.size(), to.value.f32());
  return {std::move(config), std::move(deeper)};
}

// The output (N, C) of every layer but the one of zeros.
inline std::vector<std::vector<float>> layer_outputs(const DeepenedModel& model, WatchedKernels& kernels,
                                                     const Batch& batch) {
  Bert bert(model.config, model.weights, kernels, Purpose::training, {batch.tokens, batch.sequences});
  kernels.norms.clear();
  bert.forward(batch);
  std::vector<std::vector<float>> outputs;
  for (std::size_t l = 0; l + 1 < static_cast<std::size_t>(model.config.layers); ++l)
    outputs.push_back(std::move(kernels.norms[2 * l + 1]));
  return outputs;
}

}  // namespace ember::testing
