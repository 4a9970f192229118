// The shape of a BERT encoder with a classifier on top, as config.json of a Hugging Face directory gives it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "data/examples.h"
#include "runtime/tensor.h"

namespace ember {

struct BertConfig {
  std::int64_t vocabulary = 30522;  // vocab_size, V
  std::int64_t hidden = 312;        // hidden_size, C
  std::int64_t layers = 4;          // num_hidden_layers, L
  std::int64_t heads = 12;          // num_attention_heads, H; divides hidden
  std::int64_t ffn = 1200;          // intermediate_size, F
  std::int64_t positions = 512;     // max_position_embeddings, P
  std::int64_t types = 2;           // type_vocab_size, T
  float layer_norm_eps = 1e-12f;
  float hidden_dropout = 0.1f;      // hidden_dropout_prob
  float attention_dropout = 0.1f;   // attention_probs_dropout_prob
  float classifier_dropout = 0.1f;  // classifier_dropout; hidden_dropout_prob where that is null
  float initializer_range = 0.02f;
  std::int32_t pad_token_id = 0;
  bool multi_label = true;          // whether problem_type is multi_label_classification, or absent with one label
  std::vector<std::string> labels;  // id2label in the order of the ids, K of them; empty when the file names none

  std::int64_t head_dim() const { return hidden / heads; }
  std::int64_t label_count() const { return static_cast<std::int64_t>(labels.size()); }
  bool operator==(const BertConfig&) const = default;
};

// Reads config.json. Unknown keys are ignored. Error naming the file and the key for a missing or mistyped size, a
// value that Ember does not compute (model_type other than bert, hidden_act other than gelu, position_embedding_type
// other than absolute, is_decoder, add_cross_attention, transformers_weights other than model.safetensors, heads that
// do not divide hidden_size), sizes outside 1 .. 2^24 (layers: to 256; positions: from 2), numbers out of range, labels
// whose ids have a gap, whose names repeat or whose number is not num_labels or more than kMaxLabels, or a duplicate
// key; and for malformed JSON or more than 2^40 weights.
BertConfig read_config(const std::filesystem::path& path);

// LABEL_0 .. LABEL_(count - 1), what Hugging Face calls labels without names.
std::vector<std::string> anonymous_labels(std::int64_t count);

// The config.json that AutoModelForSequenceClassification.from_pretrained needs, as text: of a multi-label classifier;
// `weights`, f32 or f16, is the type of model.safetensors. Error where a label's name is not UTF-8.
std::string config_json(const BertConfig& config, DType weights = DType::f32);

}  // namespace ember
