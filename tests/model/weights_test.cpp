#include "model/weights.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "tests/model/model_directory.h"
#include "tests/support.h"

namespace ember {
namespace {

using testing::kernels;
using testing::ModelDirectory;
using testing::values;

BertConfig small_bert() {
  BertConfig config;
  config.vocabulary = 11;
  config.hidden = 6;
  config.layers = 2;
  config.heads = 3;
  config.ffn = 5;
  config.positions = 7;
  config.types = 2;
  config.labels = {"a", "b", "c"};
  return config;
}

// Weights in host memory, without any kernels.
struct HostWeights {
  HostWeights(const BertConfig& config, std::int64_t word_rows, DType dtype = DType::f32) {
    Arena measure;
    lay_out(config, measure, word_rows, dtype);
    memory = host_buffer(measure.used());
    Arena arena(memory.data(), memory.size());
    tensors = lay_out(config, arena, word_rows, dtype);
    list = parameters(config, tensors);
  }
  Buffer memory;
  BertTensors tensors;
  std::vector<Parameter> list;
};

TEST(Parameters, HaveTheNamesAndShapesOfHuggingFace) {
  const HostWeights weights(small_bert(), 11);
  std::map<std::string, std::vector<std::int64_t>> expected{
      {"bert.embeddings.word_embeddings.weight", {11, 6}},
      {"bert.embeddings.position_embeddings.weight", {7, 6}},
      {"bert.embeddings.token_type_embeddings.weight", {2, 6}},
      {"bert.embeddings.LayerNorm.weight", {6}},
      {"bert.embeddings.LayerNorm.bias", {6}},
      {"bert.pooler.dense.weight", {6, 6}},
      {"bert.pooler.dense.bias", {6}},
      {"classifier.weight", {3, 6}},
      {"classifier.bias", {3}},
  };
  for (const std::string layer : {"bert.encoder.layer.0.", "bert.encoder.layer.1."}) {
    for (const std::string square :
         {"attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"}) {
      expected[layer + square + ".weight"] = {6, 6};
      expected[layer + square + ".bias"] = {6};
    }
    expected[layer + "intermediate.dense.weight"] = {5, 6};
    expected[layer + "intermediate.dense.bias"] = {5};
    expected[layer + "output.dense.weight"] = {6, 5};
    expected[layer + "output.dense.bias"] = {6};
    for (const std::string norm : {"attention.output.LayerNorm", "output.LayerNorm"})
      expected[layer + norm + ".weight"] = expected[layer + norm + ".bias"] = {6};
  }
  std::map<std::string, std::vector<std::int64_t>> found;
  for (const Parameter& parameter : weights.list) found[parameter.name] = parameter.shape;
  EXPECT_EQ(weights.list.size(), found.size()) << "a name stands there twice";
  EXPECT_EQ(found, expected);
  EXPECT_EQ(weights.list.front().name, "bert.embeddings.word_embeddings.weight");
}

TEST(Parameters, CoverDisjointContiguousMemory) {
  const HostWeights weights(small_bert(), 11);
  std::set<const float*> elements;
  std::int64_t count = 0;
  for (const Parameter& parameter : weights.list) {
    std::int64_t product = 1;
    for (const std::int64_t size : parameter.shape) product *= size;
    EXPECT_EQ(parameter.value.size(), product) << parameter.name;
    EXPECT_TRUE(parameter.value.contiguous()) << parameter.name;
    for (std::int64_t i = 0; i < product; ++i) elements.insert(parameter.value.f32() + i);
    count += product;
  }
  EXPECT_EQ(static_cast<std::int64_t>(elements.size()), count) << "parameters overlap";
  EXPECT_GE(*elements.begin(), weights.memory.f32());
  EXPECT_LT(*elements.rbegin(), weights.memory.f32() + weights.memory.size() / sizeof(float));
}

TEST(Parameters, DecayWeightsButNeitherBiasesNorLayerNorm) {
  for (const Parameter& parameter : HostWeights(small_bert(), 11).list) {
    const bool bias = parameter.name.ends_with(".bias"), norm = parameter.name.find("LayerNorm") != std::string::npos;
    EXPECT_EQ(parameter.decayed, !bias && !norm) << parameter.name;
    EXPECT_EQ(parameter.start, bias ? Start::zero : norm ? Start::one : Start::normal) << parameter.name;
  }
}

TEST(Parameters, QueryKeyAndValueAreBlocksOfOneProduct) {
  const HostWeights weights(small_bert(), 11);
  const LayerWeights& layer = weights.tensors.layers[1];
  EXPECT_EQ(layer.qkv_weight.rows, 18);
  EXPECT_EQ(layer.qkv_weight.cols, 6);
  EXPECT_EQ(layer.qkv_bias.size(), 18);
  const auto data = [&](const std::string& name) {
    const auto found = std::find_if(weights.list.begin(), weights.list.end(), [&](const Parameter& parameter) {
      return parameter.name == "bert.encoder.layer.1.attention.self." + name;
    });
    return found->value.f32();
  };
  EXPECT_EQ(data("query.weight"), layer.qkv_weight.f32());
  EXPECT_EQ(data("key.weight"), layer.qkv_weight.row(6));
  EXPECT_EQ(data("value.weight"), layer.qkv_weight.row(12));
  EXPECT_EQ(data("query.bias"), layer.qkv_bias.f32());
  EXPECT_EQ(data("key.bias"), layer.qkv_bias.f32() + 6);
  EXPECT_EQ(data("value.bias"), layer.qkv_bias.f32() + 12);
}

TEST(Parameters, OfGradientsHaveFewerWordRows) {
  const HostWeights weights(small_bert(), 11), gradients(small_bert(), 4);
  ASSERT_EQ(weights.list.size(), gradients.list.size());
  EXPECT_EQ(gradients.list[0].shape, (std::vector<std::int64_t>{4, 6}));
  EXPECT_EQ(gradients.list[0].value.rows, 4);
  for (std::size_t i = 1; i < weights.list.size(); ++i) {
    EXPECT_EQ(weights.list[i].name, gradients.list[i].name);
    EXPECT_EQ(weights.list[i].shape, gradients.list[i].shape);
  }
}

TEST(LayOut, WorksForOtherTypesAndWithoutMemory) {
  const HostWeights working(small_bert(), 11, DType::bf16);
  for (const Parameter& parameter : working.list) EXPECT_EQ(parameter.value.dtype, DType::bf16);
  Arena measure;
  for (const Parameter& parameter : parameters(small_bert(), lay_out(small_bert(), measure, 11))) {
    EXPECT_EQ(parameter.value.data, nullptr);
    EXPECT_FALSE(parameter.shape.empty());
  }
}

std::vector<float> drawn(const Parameter& parameter, std::uint64_t seed, std::uint32_t index, int threads = 1) {
  std::vector<float> out(static_cast<std::size_t>(parameter.value.size()), NAN);
  draw(parameter, 0.02f, seed, index, out.data(), threads);
  return out;
}

TEST(Draw, GivesConstantsForBiasesAndNorms) {
  const Parameter zero{"b", {5}, Start::zero, false, vector(nullptr, 5)};
  const Parameter one{"w", {5}, Start::one, false, vector(nullptr, 5)};
  EXPECT_EQ(drawn(zero, 1, 0), std::vector<float>(5, 0.0f));
  EXPECT_EQ(drawn(one, 1, 0), std::vector<float>(5, 1.0f));
}

TEST(Draw, IsAFunctionOfSeedAndIndex) {
  const Parameter parameter{"w", {3, 7}, Start::normal, true, matrix(nullptr, 3, 7)};
  EXPECT_EQ(drawn(parameter, 1, 2), drawn(parameter, 1, 2));
  EXPECT_NE(drawn(parameter, 1, 2), drawn(parameter, 2, 2));
  EXPECT_NE(drawn(parameter, 1, 2), drawn(parameter, 1, 3));
  // A longer one starts alike: element i does not depend on the size.
  const Parameter longer{"w", {3, 8}, Start::normal, true, matrix(nullptr, 3, 8)};
  std::vector<float> start = drawn(longer, 1, 2);
  start.resize(21);
  EXPECT_EQ(drawn(parameter, 1, 2), start);
}

TEST(Draw, DoesNotDependOnThreads) {
  const std::int64_t size = 60'001;
  const Parameter parameter{"w", {size}, Start::normal, true, vector(nullptr, size)};
  for (const int threads : {0, 2, 3, 5}) EXPECT_EQ(drawn(parameter, 3, 1, threads), drawn(parameter, 3, 1)) << threads;
}

TEST(Draw, IsNormal) {
  const std::int64_t size = 400'003;
  const Parameter parameter{"w", {size}, Start::normal, true, vector(nullptr, size)};
  const std::vector<float> values = drawn(parameter, 42, 0);
  double sum = 0, squares = 0, fourths = 0, neighbours = 0;
  std::map<int, double> within;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double x = values[i] / 0.02;
    ASSERT_TRUE(std::isfinite(x));
    sum += x;
    squares += x * x;
    fourths += x * x * x * x;
    if (i > 0) neighbours += x * values[i - 1] / 0.02;
    for (int sigma : {1, 2, 3}) within[sigma] += std::fabs(x) < sigma ? 1 : 0;
  }
  // Bounds of five standard deviations of each estimate.
  const double n = static_cast<double>(size);
  EXPECT_NEAR(sum / n, 0, 5 / std::sqrt(n));
  EXPECT_NEAR(squares / n, 1, 5 * std::sqrt(2 / n));
  EXPECT_NEAR(fourths / n, 3, 5 * std::sqrt(96 / n));
  EXPECT_NEAR(neighbours / n, 0, 5 / std::sqrt(n));
  for (const auto& [sigma, count] : within) {
    const double p = std::erf(sigma / std::sqrt(2.0));
    EXPECT_NEAR(count / n, p, 5 * std::sqrt(p * (1 - p) / n)) << sigma;
  }
}

TEST(Draw, OfAllGoesByTheirPlacesInTheList) {
  const BertWeights weights(small_bert(), kernels());
  draw_all(weights, 0.02f, 3, kernels());
  std::uint32_t index = 0;
  for (const Parameter& parameter : weights.list) {
    const float* found = parameter.value.f32();
    EXPECT_EQ(std::vector<float>(found, found + parameter.value.size()), drawn(parameter, 3, index++))
        << parameter.name;
  }
}

LoadedModel from_scratch(const ModelDirectory& directory, std::uint64_t seed) {
  LoadOptions options;
  options.from_scratch = true, options.seed = seed;
  return load_hugging_face(directory.path(), kernels(), options);
}

TEST(FromScratch, InitializerRangeIsTheStandardDeviation) {
  const ModelDirectory directory;
  directory.configure("hidden_size", 96);
  directory.configure("intermediate_size", 160);
  for (const float range : {0.02f, 0.3f}) {
    directory.configure("initializer_range", range);
    const LoadedModel model = from_scratch(directory, 42);
    for (const Parameter& parameter : model.weights.list) {
      const std::vector<float> found = values(model, parameter.name);
      if (parameter.name.ends_with(".bias")) {
        EXPECT_EQ(found, std::vector<float>(found.size(), 0.0f)) << parameter.name;
      } else if (parameter.name.ends_with("LayerNorm.weight")) {
        EXPECT_EQ(found, std::vector<float>(found.size(), 1.0f)) << parameter.name;
      } else {
        double squares = 0, count = 0;
        for (const float value : found) squares += double{value} * value, count += value != 0;  // but the padding row
        EXPECT_NEAR(std::sqrt(squares / count) / range, 1, 5 / std::sqrt(2 * count)) << parameter.name;
      }
    }
  }
}

TEST(FromScratch, AnotherSeedGivesOtherWeights) {
  const ModelDirectory directory;
  const LoadedModel model = from_scratch(directory, 1), again = from_scratch(directory, 1),
                    other = from_scratch(directory, 2);
  for (const Parameter& parameter : model.weights.list) {
    const std::string& name = parameter.name;
    EXPECT_EQ(values(again, name), values(model, name)) << name;
    if (parameter.start == Start::normal) {
      EXPECT_NE(values(other, name), values(model, name)) << name;
    }
  }
}

TEST(BertWeights, OwnsTheWholeSetAndMoves) {
  const auto kernels = make_cpu_kernels(Precision::fp32, 1);
  BertWeights weights(small_bert(), *kernels);
  ASSERT_EQ(weights.list.size(), HostWeights(small_bert(), 11).list.size());
  EXPECT_EQ(weights.list[0].value.data, weights.memory.data());
  const void* data = weights.memory.data();
  const BertWeights moved = std::move(weights);
  EXPECT_EQ(moved.memory.data(), data);
  EXPECT_EQ(moved.list[0].value.data, data);
}

}  // namespace
}  // namespace ember
