// BertForSequenceClassification, forward and backward, as a flat list of calls to Kernels. Backward is forward's
// mirror. Of the last layer only the rows that the classifier reads, [CLS], are computed: attention's output and FFN of
// B rows instead of N, and what else a backend gains by leaving out (Kernels::cls_attention_forward). The results are
// those of the whole computation.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "kernels/kernels.h"
#include "model/batches.h"
#include "model/config.h"
#include "model/weights.h"

namespace ember {

// Where dropout's masks come from; without it dropout is off. The number of the step is `step` plus, unless it is null,
// what `counter` points to in memory of the device.
struct Randomness {
  std::uint64_t seed = 0;
  std::uint32_t step = 0;
  const std::int32_t* counter = nullptr;
};

enum class Purpose { inference, training };

class Bert {
 public:
  // `weights` are read at every call and must outlive the object. A larger batch than `limits` says grows the memory.
  Bert(const BertConfig& config, const BertWeights& weights, Kernels& kernels, Purpose purpose, BatchLimits limits);
  Bert(const Bert&) = delete;
  Bert& operator=(const Bert&) = delete;
  ~Bert();

  // Before every layer but the first, forward awaits a group of what Kernels::start_updates has begun (kernels.h):
  // where in weights.list the groups begin, each with a layer, the last with the pooler and the classifier too.
  static std::vector<std::size_t> awaited(const BertWeights& weights);

  // Logits (B, K); they and all that backward needs stay valid until the next forward.
  Tensor forward(const Batch& batch, std::optional<Randomness> randomness = std::nullopt);
  // Forward in two parts, for inference of many batches: what follows the last layer's attention computes [CLS] rows
  // alone, and its products are faster for those of several batches than for the few of one. encode leaves the batch's
  // in rows [first, first + B), classify gives the logits (rows, K) of all that lie before `rows`.
  void encode(const Batch& batch, std::int64_t first = 0, std::optional<Randomness> randomness = std::nullopt);
  Tensor classify(std::int64_t rows);
  // loss (1), if the batch has targets, probabilities (B, K) and, when training, the gradient of state->loss_scale x
  // loss with respect to the logits (null: a scale of 1). `state` is in memory of the device. Each stays on the device
  // until the next forward, in memory of the model or where `into` says.
  struct Loss {
    Tensor loss, probabilities;
  };
  Loss loss(const Batch& batch, const StepState* state = nullptr, const Loss& into = {});
  // Gradients of all weights for the batch of the last forward and loss. gradients().embeddings.word has U rows.
  void backward(const Batch& batch);

  const BertTensors& gradients() const { return gradients_; }
  // How often memory was taken anew: work recorded before is then about memory that is gone.
  std::int64_t reservations() const { return reservations_; }
  // Must be called when `weights` change outside the optimizer; for inference, whenever they change.
  void weights_changed();
  // The weights that products read.
  const BertTensors& working() const { return working_; }
  bool has_working_copy() const { return working_memory_.size() > 0; }

 private:
  // What a layer's forward leaves for its backward. M = N, or B in the last layer.
  struct LayerActivations {
    Tensor in;                            // (N, C), the layer's input
    Tensor qkv;                           // (N, 3C); in the last layer what cls_attention keeps
    Tensor attention;                     // (M, C)
    Tensor attention_sum, attention_out;  // before and after LayerNorm (M, C)
    Moments attention_moments;
    Tensor ffn_in;         // product before bias and GELU (M, F)
    Tensor ffn_activated;  // (M, F)
    Tensor ffn_sum, out;   // (M, C); the next layer's input
    Moments ffn_moments;
    // And backward for the gradients of weights: the gradients of the products' outputs.
    Tensor dqkv;                  // (N, 3C)
    Tensor dattention_out, dffn;  // (M, C), (M, F)
    Tensor dffn_out;              // (M, C)
  };
  struct Activations {
    Tensor embedded_sum;
    Moments embedded_moments;
    std::vector<LayerActivations> layers;
    Tensor cls_in;                    // input of the last layer, first rows (B, C)
    Tensor pooled, pooler_activated;  // (B, C)
    Tensor logits, dlogits, probabilities, loss;
    // Backward's scratch. The gradient of a LayerNorm's output is drows + dbranch, the residual's share and that of the
    // branch beside it (N, C); in the last layer dcls + dcls_branch (B, C).
    Tensor drows, dbranch, dattention;
    Tensor dpooler, dcls, dcls_branch;
  };

  // Every weight of a product, in the blocks that forward reads.
  std::vector<Tensor> product_weights() const;
  Tensor take(Arena& arena, std::int64_t rows, std::int64_t cols) const;  // of the activations' type
  void plan(BatchLimits limits, Activations& activations, Arena& arena) const;
  void plan_training_layers(BatchLimits limits, std::vector<LayerActivations>& layers, Arena& arena) const;
  void plan_inference_layers(BatchLimits limits, std::vector<LayerActivations>& layers, Arena& arena) const;
  void plan_backward(BatchLimits limits, Activations& activations, Arena& arena) const;
  void reserve(BatchLimits limits);
  void fit(const Batch& batch, std::int64_t first);
  void fit_tokens(std::int64_t tokens);
  void fit_sequences(std::int64_t sequences);
  void fit_output(std::size_t layer, std::int64_t rows);
  bool is_last(std::size_t layer) const { return layer + 1 == working_.layers.size(); }
  Dropout dropout(float probability, Site site, std::size_t layer = 0) const;
  Tensor qkv_bias(std::size_t layer) const;
  void attention_forward(std::size_t layer, const Batch& batch);
  void output_forward(std::size_t layer);
  Tensor layer_backward(std::size_t layer, Tensor dbranch, const Batch& batch);
  Tensor attention_backward(std::size_t layer, const Batch& batch);

  const BertConfig& config_;
  const BertWeights& weights_;
  Kernels& kernels_;
  Purpose purpose_;
  BatchLimits limits_;
  Buffer activation_memory_, gradient_memory_, working_memory_;
  Activations full_, now_;  // for the limits, and cut to the batch at hand
  BertTensors gradients_, working_;
  std::optional<Randomness> randomness_;
  std::int64_t reservations_ = 0;
};

}  // namespace ember
