#include "model/weights.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <utility>

#include "runtime/ceil_div.h"
#include "runtime/philox.h"
#include "runtime/shares.h"

namespace ember {
namespace {

constexpr std::size_t kBlocksPerThread = std::size_t{1} << 12;  // at least

// Calls visit(names, tensor, rows, cols, start) for every tensor of the model, in the order in which they lie in
// memory; a vector has cols 0. Several names mean equal blocks of rows of a matrix, or equal pieces of a vector.
template <typename Tensors, typename Visit>
class Visitor {
 public:
  Visitor(const BertConfig& config, Tensors& tensors, std::int64_t word_rows, Visit visit)
      : config_(config), tensors_(tensors), word_rows_(word_rows), visit_(std::move(visit)) {}

  void run() {
    const std::int64_t C = config_.hidden;
    const std::string embeddings = "bert.embeddings.";
    table(embeddings + "word_embeddings", tensors_.embeddings.word, word_rows_);
    table(embeddings + "position_embeddings", tensors_.embeddings.position, config_.positions);
    table(embeddings + "token_type_embeddings", tensors_.embeddings.type, config_.types);
    norm(embeddings + "LayerNorm", tensors_.embedding_norm);
    for (std::size_t i = 0; i < tensors_.layers.size(); ++i)
      layer(fmt::format("bert.encoder.layer.{}.", i), tensors_.layers[i]);
    linear({"bert.pooler.dense"}, tensors_.pooler_weight, tensors_.pooler_bias, C, C);
    linear({"classifier"}, tensors_.classifier_weight, tensors_.classifier_bias, config_.label_count(), C);
  }

 private:
  using Names = std::vector<std::string>;

  template <typename Layer>
  void layer(const std::string& prefix, Layer& layer) {
    const std::int64_t C = config_.hidden, F = config_.ffn;
    const std::string self = prefix + "attention.self.", attention = prefix + "attention.output.";
    linear({self + "query", self + "key", self + "value"}, layer.qkv_weight, layer.qkv_bias, 3 * C, C);
    linear({attention + "dense"}, layer.attention_weight, layer.attention_bias, C, C);
    norm(attention + "LayerNorm", layer.attention_norm);
    linear({prefix + "intermediate.dense"}, layer.ffn_in_weight, layer.ffn_in_bias, F, C);
    linear({prefix + "output.dense"}, layer.ffn_out_weight, layer.ffn_out_bias, C, F);
    norm(prefix + "output.LayerNorm", layer.ffn_norm);
  }

  template <typename T>
  void linear(const Names& modules, T& weight, T& bias, std::int64_t outputs, std::int64_t inputs) {
    visit_(members(modules, ".weight"), weight, outputs, inputs, Start::normal);
    visit_(members(modules, ".bias"), bias, outputs, std::int64_t{0}, Start::zero);
  }
  template <typename T>
  void table(const std::string& module, T& weight, std::int64_t rows) {
    visit_(Names{module + ".weight"}, weight, rows, config_.hidden, Start::normal);
  }
  template <typename T>
  void norm(const std::string& module, T& norm) {
    visit_(Names{module + ".weight"}, norm.weight, config_.hidden, std::int64_t{0}, Start::one);
    visit_(Names{module + ".bias"}, norm.bias, config_.hidden, std::int64_t{0}, Start::zero);
  }
  static Names members(Names modules, const char* member) {
    for (std::string& name : modules) name += member;
    return modules;
  }

  const BertConfig& config_;
  Tensors& tensors_;
  std::int64_t word_rows_;
  Visit visit_;
};

// Four independent N(0, 1) from four uniform words: Box and Muller, "A note on the generation of random normal
// deviates" (1958). The first word of a pair is moved into (0, 1], where the logarithm is finite.
std::array<double, 4> normal_block(const PhiloxBlock& words) {
  std::array<double, 4> out;
  for (std::size_t i = 0; i < 4; i += 2) {
    const double radius = std::sqrt(-2 * std::log((words[i] + 1.0) * 0x1p-32));
    const double angle = 2 * std::numbers::pi * (words[i + 1] * 0x1p-32);
    out[i] = radius * std::cos(angle);
    out[i + 1] = radius * std::sin(angle);
  }
  return out;
}

// Where `parameter` of the set lies in a block that is laid out as the set's memory, or in that where there is none.
float* place_of(const Parameter& parameter, const BertWeights& weights, const Buffer& block) {
  float* const values = parameter.value.f32();
  return block.data() == nullptr ? values : block.f32() + (values - weights.memory.f32());
}

}  // namespace

BertTensors lay_out(const BertConfig& config, Arena& arena, std::int64_t word_rows, DType dtype) {
  BertTensors tensors;
  tensors.layers.resize(static_cast<std::size_t>(config.layers));
  const auto take = [&](const std::vector<std::string>&, Tensor& tensor, std::int64_t rows, std::int64_t cols, Start) {
    tensor = cols == 0 ? arena.vector(rows, dtype) : arena.matrix(rows, cols, dtype);
  };
  Visitor(config, tensors, word_rows, take).run();
  return tensors;
}

std::vector<Parameter> parameters(const BertConfig& config, const BertTensors& tensors) {
  std::vector<Parameter> list;
  const auto add = [&](const std::vector<std::string>& names, const Tensor& tensor, std::int64_t rows,
                       std::int64_t cols, Start start) {
    const std::int64_t size = rows / static_cast<std::int64_t>(names.size());
    for (std::size_t i = 0; i < names.size(); ++i) {
      const std::int64_t begin = static_cast<std::int64_t>(i) * size;
      // Weight matrices are all that starts random, and all that is decayed.
      Parameter parameter{names[i], {size}, start, start == Start::normal, {}};
      if (cols != 0) parameter.shape.push_back(cols);
      parameter.value = cols == 0 ? tensor.columns(begin, size) : tensor.row_block(begin, size);
      list.push_back(std::move(parameter));
    }
  };
  Visitor(config, tensors, tensors.embeddings.word.rows, add).run();
  return list;
}

BertWeights::BertWeights(const BertConfig& config, Kernels& kernels) {
  check(config.head_dim() <= kernels.most_head_columns(),
        "config.json: {} columns a head (hidden_size {}, num_attention_heads {}), but {} takes at most {}; the CPU "
        "takes any",
        config.head_dim(), config.hidden, config.heads, kernels.device_name(), kernels.most_head_columns());
  Arena measure;
  lay_out(config, measure, config.vocabulary);
  memory = kernels.allocate(measure.used());
  Arena arena(memory.data(), memory.size());
  tensors = lay_out(config, arena, config.vocabulary);
  list = parameters(config, tensors);
}

HostView::HostView(const BertWeights& weights, Kernels& kernels) : weights_(weights) {
  if (kernels.on_host()) return;
  copy_ = host_buffer(weights.memory.size());
  kernels.download(copy_.data(), weights.memory.data(), copy_.size());
}

std::span<const float> HostView::of(const Parameter& parameter) const {
  return {place_of(parameter, weights_, copy_), static_cast<std::size_t>(parameter.value.size())};
}

HostDraft::HostDraft(const BertWeights& weights, Kernels& kernels) : weights_(weights), kernels_(kernels) {
  if (!kernels.on_host()) draft_ = host_buffer(weights.memory.size());
}

float* HostDraft::of(const Parameter& parameter) const {
  return place_of(parameter, weights_, draft_);
}

void HostDraft::upload() const {
  if (draft_.data() != nullptr) kernels_.upload(weights_.memory.data(), draft_.data(), draft_.size());
}

void draw(const Parameter& parameter, float range, std::uint64_t seed, std::uint32_t index, float* out, int threads) {
  const auto size = static_cast<std::size_t>(parameter.value.size());
  if (parameter.start != Start::normal) {
    std::fill_n(out, size, parameter.start == Start::one ? 1.0f : 0.0f);
    return;
  }
  const std::size_t blocks = ceil_div(size, 4);
  const auto draw_blocks = [=](std::size_t, std::size_t begin, std::size_t end) {
    for (std::size_t b = begin; b < end; ++b) {
      const auto block = normal_block(random_block(seed, static_cast<std::uint32_t>(Site::initialisation), index, b));
      for (std::size_t j = 4 * b; j < std::min(size, 4 * b + 4); ++j) out[j] = static_cast<float>(range * block[j % 4]);
    }
  };
  in_shares(count_shares(threads, blocks, kBlocksPerThread), blocks, draw_blocks);
}

void draw_all(const BertWeights& weights, float range, std::uint64_t seed, Kernels& kernels) {
  const HostDraft draft(weights, kernels);
  for (std::size_t i = 0; i < weights.list.size(); ++i)
    draw(weights.list[i], range, seed, static_cast<std::uint32_t>(i), draft.of(weights.list[i]));
  draft.upload();
}

}  // namespace ember
