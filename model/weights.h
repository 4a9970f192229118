// The weights of BertForSequenceClassification. One visitor lists them all, once: allocation, loading, saving, the
// optimizer and the tests of gradients all go through it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/kernels.h"
#include "model/config.h"
#include "runtime/arena.h"

namespace ember {

// How a weight starts when no file has it.
enum class Start { normal, zero, one };

// One named weight of the model. `shape` is Hugging Face's (one dimension for vectors); `value` views it as a matrix.
struct Parameter {
  std::string name;  // bert.encoder.layer.0.attention.self.query.weight
  std::vector<std::int64_t> shape;
  Start start;
  bool decayed;  // by AdamW: all but biases and LayerNorm's
  Tensor value;
};

struct LayerWeights {
  Tensor qkv_weight, qkv_bias;  // (3 C, C), (3 C): query, key and value one under the other, so that one product serves
  Tensor attention_weight, attention_bias;  // (C, C), (C)
  LayerNormTensors attention_norm;
  Tensor ffn_in_weight, ffn_in_bias;    // (F, C), (F)
  Tensor ffn_out_weight, ffn_out_bias;  // (C, F), (C)
  LayerNormTensors ffn_norm;
};

// Views into one block; the same struct describes the weights, their working copy and their gradients.
struct BertTensors {
  EmbeddingTensors embeddings;
  LayerNormTensors embedding_norm;
  std::vector<LayerWeights> layers;
  Tensor pooler_weight, pooler_bias;          // (C, C), (C)
  Tensor classifier_weight, classifier_bias;  // (K, C), (K)
};

// Lays the tensors of `config` out in the arena, in the visitor's order, with `word_rows` rows for the word embedding
// (V for weights; the most different tokens of a batch for gradients).
BertTensors lay_out(const BertConfig& config, Arena& arena, std::int64_t word_rows, DType dtype = DType::f32);

// Every parameter in a fixed order, under its Hugging Face name; the first is the word embedding.
std::vector<Parameter> parameters(const BertConfig& config, const BertTensors& tensors);

// Owner of a whole set of weights on a device. Error where the device's attention does not take heads of that size.
struct BertWeights {
  BertWeights(const BertConfig& config, Kernels& kernels);
  Buffer memory;
  BertTensors tensors;
  std::vector<Parameter> list;  // views into `memory`
};

// A set of weights as the host reads it: where it lies, if the device's memory is the host's, else a copy. `weights`
// must outlive it.
class HostView {
 public:
  HostView(const BertWeights& weights, Kernels& kernels);
  // The values of a parameter of the set.
  std::span<const float> of(const Parameter& parameter) const;

 private:
  const BertWeights& weights_;
  Buffer copy_;
};

// The same as the host writes it: where it lies, or elsewhere until upload() has taken all of it to the device.
class HostDraft {
 public:
  HostDraft(const BertWeights& weights, Kernels& kernels);
  // Where the values of a parameter of the set go, every one of them before upload().
  float* of(const Parameter& parameter) const;
  void upload() const;

 private:
  const BertWeights& weights_;
  Kernels& kernels_;
  Buffer draft_;
};

// Draws `parameter` afresh into `out` (host memory): N(0, range), zeros or ones. A function of (seed, index) alone,
// computed by so many threads, 0 for all.
void draw(const Parameter& parameter, float range, std::uint64_t seed, std::uint32_t index, float* out,
          int threads = 1);
// Draws every parameter of a set, even the row of padding, each with its place in the list as its index.
void draw_all(const BertWeights& weights, float range, std::uint64_t seed, Kernels& kernels);

}  // namespace ember
