#include "model/bert.h"

#include <algorithm>
#include <array>

#include "kernels/require.h"

namespace ember {
namespace {

// A view of the first rows, for a batch smaller than the limits.
Tensor first_rows(Tensor tensor, std::int64_t rows) {
  tensor.rows = rows;
  return tensor;
}

Moments take_moments(Arena& arena, std::int64_t rows) {
  return {arena.vector(rows), arena.vector(rows)};
}

}  // namespace

Bert::Bert(const BertConfig& config, const BertWeights& weights, Kernels& kernels, Purpose purpose, BatchLimits limits)
    : config_(config), weights_(weights), kernels_(kernels), purpose_(purpose) {
  working_ = weights_.tensors;
  if (kernels_.product_type() != DType::f32) {
    Arena measure;
    lay_out(config_, measure, 0, kernels_.product_type());
    working_memory_ = kernels_.allocate(measure.used());
    Arena arena(working_memory_.data(), working_memory_.size());
    working_ = lay_out(config_, arena, 0, kernels_.product_type());
  }
  reserve(limits);
  weights_changed();  // last: what is frozen only the destructor thaws
}

Bert::~Bert() {
  if (purpose_ != Purpose::inference) return;
  kernels_.thaw(product_weights());
}

void Bert::weights_changed() {
  if (has_working_copy()) {
    const std::vector<Parameter> to = parameters(config_, working_);
    for (std::size_t i = 1; i < to.size(); ++i) kernels_.round_weights(to[i].value, weights_.list[i].value);
  }
  if (purpose_ != Purpose::inference) return;
  kernels_.freeze(product_weights());
}

std::vector<Tensor> Bert::product_weights() const {
  const std::int64_t c = config_.hidden;
  std::vector<Tensor> list{working_.pooler_weight, working_.classifier_weight};
  for (std::size_t l = 0; l < working_.layers.size(); ++l) {
    const LayerWeights& w = working_.layers[l];
    list.push_back(is_last(l) ? w.qkv_weight.row_block(0, c) : w.qkv_weight);
    list.insert(list.end(), {w.attention_weight, w.ffn_in_weight, w.ffn_out_weight});
  }
  return list;
}

// ---- Memory ---------------------------------------------------------------------------------------------------------

Tensor Bert::take(Arena& arena, std::int64_t rows, std::int64_t cols) const {
  return arena.matrix(rows, cols, kernels_.activation_type());
}

void Bert::plan(BatchLimits limits, Activations& a, Arena& arena) const {
  const auto [n, b] = limits;
  const std::int64_t c = config_.hidden, k = config_.label_count();
  a.embedded_sum = take(arena, n, c), a.embedded_moments = take_moments(arena, n);
  a.layers.assign(static_cast<std::size_t>(config_.layers), {});
  purpose_ == Purpose::training ? plan_training_layers(limits, a.layers, arena)
                                : plan_inference_layers(limits, a.layers, arena);
  for (std::size_t l = 0; l + 1 < a.layers.size(); ++l) a.layers[l].out = a.layers[l + 1].in;
  a.layers.back().out = take(arena, b, c);
  a.cls_in = take(arena, b, c);
  a.pooled = take(arena, b, c), a.pooler_activated = take(arena, b, c);
  a.logits = arena.matrix(b, k), a.probabilities = arena.matrix(b, k), a.loss = arena.vector(1);
  if (purpose_ == Purpose::training) plan_backward(limits, a, arena);
}

// Every layer's tensors lie in the same order, so equally far from the next layer's: a backend can take the products of
// all layers together.
void Bert::plan_training_layers(BatchLimits limits, std::vector<LayerActivations>& layers, Arena& arena) const {
  const auto [n, b] = limits;
  const std::int64_t c = config_.hidden, f = config_.ffn;
  for (LayerActivations& layer : layers) {
    const std::int64_t m = &layer == &layers.back() ? b : n;
    layer.in = take(arena, n, c), layer.qkv = take(arena, n, 3 * c);
    layer.attention = take(arena, m, c);
    layer.attention_sum = take(arena, m, c), layer.attention_out = take(arena, m, c),
    layer.attention_moments = take_moments(arena, m);
    layer.ffn_in = take(arena, m, f), layer.ffn_activated = take(arena, m, f);
    layer.ffn_sum = take(arena, m, c), layer.ffn_moments = take_moments(arena, m);
  }
}

// Without a backward all layers have the same buffers, and in a layer what is done with makes room, so that as much as
// can stays in the cache; two take turns as input, one layer's output being the next one's.
void Bert::plan_inference_layers(BatchLimits limits, std::vector<LayerActivations>& layers, Arena& arena) const {
  const std::int64_t n = limits.tokens, b = limits.sequences, c = config_.hidden, f = config_.ffn;
  const DType type = kernels_.activation_type();
  const std::array inputs{take(arena, n, c), take(arena, n, c)};
  const Tensor wide = take(arena, n, std::max(3 * c, f));
  const auto plan = [&](std::int64_t m) {
    LayerActivations layer;
    layer.attention = take(arena, m, c), layer.attention_out = take(arena, m, c);
    layer.attention_sum = layer.ffn_sum = take(arena, m, c);
    layer.attention_moments = layer.ffn_moments = take_moments(arena, m);
    layer.qkv = matrix(wide.data, n, 3 * c, type);
    return layer;
  };
  LayerActivations layer = plan(n), last = plan(b);
  layer.ffn_in = layer.ffn_activated = matrix(wide.data, n, f, type);
  last.ffn_in = last.ffn_activated = take(arena, b, f);
  for (std::size_t l = 0; l < layers.size(); ++l) {
    layers[l] = l + 1 < layers.size() ? layer : last;
    layers[l].in = inputs[l % 2];
  }
}

void Bert::plan_backward(BatchLimits limits, Activations& a, Arena& arena) const {
  const auto [n, b] = limits;
  const std::int64_t c = config_.hidden, f = config_.ffn;
  a.dlogits = take(arena, b, config_.label_count());
  a.drows = take(arena, n, c), a.dbranch = take(arena, n, c), a.dattention = take(arena, n, c);
  a.dpooler = take(arena, b, c), a.dcls = take(arena, b, c), a.dcls_branch = take(arena, b, c);
  if (kernels_.defers_gradients()) {
    for (LayerActivations& layer : a.layers) {
      const std::int64_t m = layer.attention.rows;
      layer.dqkv = take(arena, n, 3 * c);
      layer.dattention_out = take(arena, m, c), layer.dffn = take(arena, m, f), layer.dffn_out = take(arena, m, c);
    }
    return;
  }
  // The layers take turns. A LayerNorm's backward leaves the gradient of a product's output where the branch's share
  // of its own was, which is spent by then.
  const Tensor dqkv = take(arena, n, 3 * c), dffn = take(arena, n, f);
  for (LayerActivations& layer : a.layers) {
    const bool last = &layer == &a.layers.back();
    layer.dqkv = dqkv;
    layer.dattention_out = last ? a.dcls_branch : a.dbranch;
    layer.dffn = first_rows(dffn, layer.attention.rows), layer.dffn_out = layer.dattention_out;
  }
}

void Bert::reserve(BatchLimits limits) {
  kernels_.finish_updates();  // they read the gradients, which go
  Arena measure, gradient_measure;
  Activations measured;
  plan(limits, measured, measure);
  if (purpose_ == Purpose::training) lay_out(config_, gradient_measure, limits.tokens);
  Buffer activation_memory = kernels_.allocate(measure.used());
  gradient_memory_ = kernels_.allocate(gradient_measure.used());
  activation_memory_ = std::move(activation_memory);
  // Nothing fails any more. If it has, the old limits are true, and the gradients still where they were.
  limits_ = limits;
  ++reservations_;
  Arena arena(activation_memory_.data(), activation_memory_.size());
  plan(limits, full_, arena);
  now_ = full_;
  if (purpose_ == Purpose::inference) return;
  Arena gradient_arena(gradient_memory_.data(), gradient_memory_.size());
  gradients_ = lay_out(config_, gradient_arena, limits.tokens);
}

// Cuts to the batch at hand, whose [CLS] rows begin with `first`, the views that encode reads and writes.
void Bert::fit(const Batch& batch, std::int64_t first) {
  const std::int64_t sequences = first + batch.sequences;
  if (batch.tokens > limits_.tokens || sequences > limits_.sequences) {
    require(first == 0, "encode: the rows before these would go");
    reserve({std::max(batch.tokens, limits_.tokens), std::max(sequences, limits_.sequences)});
  }
  fit_tokens(batch.tokens);
  now_.cls_in = full_.cls_in.row_block(first, batch.sequences);
  now_.layers.back().attention = full_.layers.back().attention.row_block(first, batch.sequences);
  if (purpose_ == Purpose::training) gradients_.embeddings.word.rows = batch.unique;
}

void Bert::fit_tokens(std::int64_t n) {
  now_.embedded_sum = first_rows(full_.embedded_sum, n);
  for (std::size_t l = 0; l < now_.layers.size(); ++l) {
    for (const auto member : {&LayerActivations::in, &LayerActivations::qkv, &LayerActivations::dqkv})
      now_.layers[l].*member = first_rows(full_.layers[l].*member, n);
    if (l + 1 < now_.layers.size()) fit_output(l, n);
  }
  for (const auto member : {&Activations::drows, &Activations::dbranch, &Activations::dattention})
    now_.*member = first_rows(full_.*member, n);
}

void Bert::fit_sequences(std::int64_t b) {
  fit_output(now_.layers.size() - 1, b);
  for (const auto member : {&Activations::cls_in, &Activations::pooled, &Activations::pooler_activated,
                            &Activations::logits, &Activations::probabilities, &Activations::dlogits,
                            &Activations::dpooler, &Activations::dcls, &Activations::dcls_branch})
    now_.*member = first_rows(full_.*member, b);
}

// What has a row per query of the layer.
void Bert::fit_output(std::size_t l, std::int64_t m) {
  for (const auto member :
       {&LayerActivations::attention, &LayerActivations::attention_sum, &LayerActivations::attention_out,
        &LayerActivations::ffn_in, &LayerActivations::ffn_activated, &LayerActivations::ffn_sum, &LayerActivations::out,
        &LayerActivations::dattention_out, &LayerActivations::dffn, &LayerActivations::dffn_out})
    now_.layers[l].*member = first_rows(full_.layers[l].*member, m);
}

Dropout Bert::dropout(float probability, Site site, std::size_t layer) const {
  if (!randomness_) return {};
  return {probability, randomness_->seed, static_cast<std::uint32_t>(site) + static_cast<std::uint32_t>(layer),
          randomness_->step, randomness_->counter};
}

// ---- Forward --------------------------------------------------------------------------------------------------------

std::vector<std::size_t> Bert::awaited(const BertWeights& weights) {
  std::vector<std::size_t> places;
  for (std::size_t l = 1; l < weights.tensors.layers.size(); ++l) {
    const void* const first = weights.tensors.layers[l].qkv_weight.data;
    const auto place = std::find_if(weights.list.begin(), weights.list.end(),
                                    [&](const Parameter& parameter) { return parameter.value.data == first; });
    places.push_back(static_cast<std::size_t>(place - weights.list.begin()));
  }
  return places;
}

Tensor Bert::forward(const Batch& batch, std::optional<Randomness> randomness) {
  encode(batch, 0, randomness);
  return classify(batch.sequences);
}

void Bert::encode(const Batch& batch, std::int64_t first, std::optional<Randomness> randomness) {
  randomness_ = randomness;
  fit(batch, first);
  const BertTensors& w = weights_.tensors;
  kernels_.embeddings_forward(now_.layers.front().in, now_.embedded_sum, now_.embedded_moments, batch, w.embeddings,
                              w.embedding_norm, config_.layer_norm_eps,
                              dropout(config_.hidden_dropout, Site::embeddings));
  for (std::size_t l = 0; l < now_.layers.size(); ++l) {
    if (l > 0) kernels_.await_updates();
    attention_forward(l, batch);
    if (!is_last(l)) output_forward(l);
  }
}

Tensor Bert::classify(std::int64_t rows) {
  fit_sequences(rows);
  const BertTensors& w = weights_.tensors;
  output_forward(now_.layers.size() - 1);
  kernels_.linear_forward(now_.pooler_activated, now_.layers.back().out, working_.pooler_weight, {});
  kernels_.head_forward(now_.logits, now_.pooled, now_.pooler_activated, now_.pooler_activated, w.pooler_bias,
                        working_.classifier_weight, w.classifier_bias,
                        dropout(config_.classifier_dropout, Site::pooler));
  return now_.logits;
}

// What the product of queries, keys and values adds, in the type of its output (Kernels::linear_forward).
Tensor Bert::qkv_bias(std::size_t l) const {
  const bool in_fp32 = now_.layers[l].qkv.dtype == DType::f32;
  return (in_fp32 ? weights_.tensors : working_).layers[l].qkv_bias;
}

// Up to what attention gives.
void Bert::attention_forward(std::size_t l, const Batch& batch) {
  LayerActivations& a = now_.layers[l];
  const LayerWeights& product = working_.layers[l];
  const std::int64_t c = config_.hidden;
  const Dropout attention_dropout = dropout(config_.attention_dropout, Site::attention_probabilities, l);
  if (is_last(l)) {
    kernels_.cls_attention_forward(a.attention, now_.cls_in, a.qkv, a.in, product.qkv_weight, qkv_bias(l), batch,
                                   config_.heads, config_.positions, attention_dropout);
    return;
  }
  kernels_.linear_forward(a.qkv, a.in, product.qkv_weight, qkv_bias(l));
  kernels_.attention_forward(a.attention, a.qkv.columns(0, c), a.qkv.columns(c, c), a.qkv.columns(2 * c, c), batch,
                             config_.heads, config_.positions, Queries::all, attention_dropout);
}

// The rest of a layer.
void Bert::output_forward(std::size_t l) {
  LayerActivations& a = now_.layers[l];
  const LayerWeights& w = weights_.tensors.layers[l];
  const LayerWeights& product = working_.layers[l];
  kernels_.linear_forward(a.attention_sum, a.attention, product.attention_weight, {});
  kernels_.residual_layernorm_forward(a.attention_out, a.attention_sum, a.attention_moments, a.attention_sum,
                                      w.attention_bias, is_last(l) ? now_.cls_in : a.in, w.attention_norm,
                                      config_.layer_norm_eps,
                                      dropout(config_.hidden_dropout, Site::attention_output, l));
  kernels_.linear_gelu_forward(a.ffn_activated, a.ffn_in, a.attention_out, product.ffn_in_weight, w.ffn_in_bias);
  kernels_.linear_forward(a.ffn_sum, a.ffn_activated, product.ffn_out_weight, {});
  kernels_.residual_layernorm_forward(a.out, a.ffn_sum, a.ffn_moments, a.ffn_sum, w.ffn_out_bias, a.attention_out,
                                      w.ffn_norm, config_.layer_norm_eps,
                                      dropout(config_.hidden_dropout, Site::ffn_output, l));
}

Bert::Loss Bert::loss(const Batch& batch, const StepState* state, const Loss& into) {
  const bool scored = !batch.targets.empty();
  const Loss to{into.loss.empty() ? now_.loss : into.loss,
                into.probabilities.empty() ? now_.probabilities : into.probabilities};
  kernels_.sigmoid_bce(scored ? to.loss : Tensor{}, scored && purpose_ == Purpose::training ? now_.dlogits : Tensor{},
                       to.probabilities, now_.logits, batch.targets, state);
  return to;
}

// ---- Backward -------------------------------------------------------------------------------------------------------

void Bert::backward(const Batch& batch) {
  const BertTensors& g = gradients_;
  kernels_.linear_backward_weight(g.classifier_weight, g.classifier_bias, now_.dlogits, now_.pooled);
  kernels_.head_backward(now_.dpooler, g.pooler_bias, now_.dlogits, now_.pooler_activated, working_.classifier_weight,
                         dropout(config_.classifier_dropout, Site::pooler));
  kernels_.linear_backward_weight(g.pooler_weight, {}, now_.dpooler, now_.layers.back().out);
  kernels_.linear_backward_input(now_.dcls, now_.dpooler, working_.pooler_weight);

  Tensor dbranch;
  for (std::size_t l = now_.layers.size(); l-- > 0;) dbranch = layer_backward(l, dbranch, batch);
  kernels_.embeddings_backward(g.embeddings, g.embedding_norm, now_.drows, now_.drows, dbranch, now_.embedded_sum,
                               now_.embedded_moments, batch, weights_.tensors.embedding_norm,
                               dropout(config_.hidden_dropout, Site::embeddings));
  kernels_.finish_gradients();
}

// Turns the gradient of the layer's output, drows (dcls for the last layer) + dbranch, into that of its input, drows +
// what is returned.
Tensor Bert::layer_backward(std::size_t l, Tensor dbranch, const Batch& batch) {
  LayerActivations& a = now_.layers[l];
  const LayerWeights& w = weights_.tensors.layers[l];
  const LayerWeights& product = working_.layers[l];
  const LayerWeights& g = gradients_.layers[l];
  // The products' backward does not add its result to the residual's share: the next LayerNorm's does as it reads both.
  const Tensor residual = is_last(l) ? now_.dcls : now_.drows;
  const Tensor branch = is_last(l) ? now_.dcls_branch : now_.dbranch;

  kernels_.residual_layernorm_backward(residual, a.dffn_out, g.ffn_out_bias, g.ffn_norm, residual, dbranch, a.ffn_sum,
                                       a.ffn_moments, w.ffn_norm, dropout(config_.hidden_dropout, Site::ffn_output, l));
  kernels_.linear_backward_weight(g.ffn_out_weight, {}, a.dffn_out, a.ffn_activated);
  kernels_.linear_gelu_backward(a.dffn, g.ffn_in_bias, a.dffn_out, product.ffn_out_weight, a.ffn_in, w.ffn_in_bias);
  kernels_.linear_backward_weight(g.ffn_in_weight, {}, a.dffn, a.attention_out);
  kernels_.linear_backward_input(branch, a.dffn, product.ffn_in_weight);

  kernels_.residual_layernorm_backward(residual, a.dattention_out, g.attention_bias, g.attention_norm, residual, branch,
                                       a.attention_sum, a.attention_moments, w.attention_norm,
                                       dropout(config_.hidden_dropout, Site::attention_output, l));
  kernels_.linear_backward_weight(g.attention_weight, {}, a.dattention_out, a.attention);
  kernels_.linear_backward_input(first_rows(now_.dattention, residual.rows), a.dattention_out,
                                 product.attention_weight);
  if (l == 0) kernels_.start_gradients(g.qkv_weight);
  return attention_backward(l, batch);
}

// From the gradient of attention's output, in dattention, and the residual's share, in drows (dcls for the last layer):
// that of the layer's input, as layer_backward has it.
Tensor Bert::attention_backward(std::size_t l, const Batch& batch) {
  const LayerActivations& a = now_.layers[l];
  const LayerWeights& g = gradients_.layers[l];
  const LayerWeights& product = working_.layers[l];
  const std::int64_t c = config_.hidden;
  const Dropout attention_dropout = dropout(config_.attention_dropout, Site::attention_probabilities, l);
  if (is_last(l)) {
    return kernels_.cls_attention_backward(now_.drows, now_.dbranch, g.qkv_weight, g.qkv_bias, a.dqkv, now_.dcls,
                                           first_rows(now_.dattention, batch.sequences), a.qkv, now_.cls_in, a.in,
                                           product.qkv_weight, qkv_bias(l), batch, config_.heads, config_.positions,
                                           attention_dropout);
  }
  kernels_.attention_backward(a.dqkv.columns(0, c), a.dqkv.columns(c, c), a.dqkv.columns(2 * c, c), now_.dattention,
                              a.qkv.columns(0, c), a.qkv.columns(c, c), a.qkv.columns(2 * c, c), batch, config_.heads,
                              config_.positions, Queries::all, attention_dropout);
  kernels_.linear_backward_weight(g.qkv_weight, g.qkv_bias, a.dqkv, a.in);
  if (l == 0) kernels_.start_gradients({});
  kernels_.linear_backward_input(now_.dbranch, a.dqkv, product.qkv_weight);
  return now_.dbranch;
}

}  // namespace ember
