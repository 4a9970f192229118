// A small fine-tuned model as a Hugging Face directory, every part of which a test may replace.
#pragma once

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "model/hugging_face.h"
#include "model/safetensors.h"
#include "runtime/file.h"
#include "tests/support.h"

namespace ember::testing {

inline Kernels& kernels() {
  static const std::unique_ptr<Kernels> instance = make_cpu_kernels(Precision::fp32, 1);
  return *instance;
}

inline void put(const std::filesystem::path& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
}

inline BertConfig small() {
  BertConfig config;
  config.vocabulary = 9;
  config.hidden = 6;
  config.layers = 2;
  config.heads = 3;
  config.ffn = 5;
  config.positions = 7;
  config.hidden_dropout = 0.25f;
  config.labels = {"joy", "grief", "neutral"};
  return config;
}

// A tensor in memory that a test may change before it is written.
struct Stored {
  std::string name, dtype = "F32";
  std::vector<std::int64_t> shape;
  std::vector<std::byte> bytes;
};

// A directory with all the files of a small fine-tuned model, every part of which a test may replace.
class ModelDirectory {
 public:
  ModelDirectory() {
    put(path() / "config.json", config_json(small()));
    put(path() / "vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nin\nthe\nend\nmore\n");
    put(path() / "tokenizer_config.json", R"({"do_lower_case": false})");
    Arena measure;
    std::uint32_t index = 0;
    for (const Parameter& parameter : parameters(small(), lay_out(small(), measure, small().vocabulary))) {
      std::vector<float> values(static_cast<std::size_t>(parameter.value.size()));
      Parameter random = parameter;
      random.start = Start::normal;
      draw(random, 1, 7, index++, values.data());
      tensors.push_back({parameter.name, "F32", parameter.shape, {}});
      tensors.back().bytes.resize(values.size() * sizeof(float));
      std::memcpy(tensors.back().bytes.data(), values.data(), tensors.back().bytes.size());
    }
    write();
  }

  const std::filesystem::path& path() const { return directory_.path(); }

  Stored& find(const std::string& name) {
    return *std::find_if(tensors.begin(), tensors.end(), [&](const Stored& tensor) { return tensor.name == name; });
  }
  void remove(const std::string& name) {
    std::erase_if(tensors, [&](const Stored& tensor) { return tensor.name == name; });
  }
  void rename(const std::function<std::string(std::string)>& to) {
    for (Stored& tensor : tensors) tensor.name = to(tensor.name);
  }
  void write() const {
    std::vector<TensorToStore> stored;
    for (const Stored& tensor : tensors) stored.push_back({tensor.name, tensor.dtype, tensor.shape, tensor.bytes});
    FileWriter file(path() / "model.safetensors");
    write_safetensors(file, stored, {{"format", "pt"}});
    file.finish();
  }
  void configure(const char* key, const nlohmann::json& value) const {
    nlohmann::json object = nlohmann::json::parse(read_file(path() / "config.json"));
    object[key] = value;
    put(path() / "config.json", object.dump());
  }

  std::vector<Stored> tensors;

 private:
  TemporaryDirectory directory_;
};

// The weights of that name; empty, and a failure, when there are none.
inline std::vector<float> values(const LoadedModel& model, const std::string& name) {
  for (const Parameter& parameter : model.weights.list)
    if (parameter.name == name) return {parameter.value.f32(), parameter.value.f32() + parameter.value.size()};
  ADD_FAILURE() << name;
  return {};
}

// Whether the model has this tensor bit for bit, under `name`.
inline ::testing::AssertionResult holds(const LoadedModel& model, const Stored& tensor, const std::string& name) {
  const std::vector<float> found = values(model, name);
  if (found.size() * sizeof(float) != tensor.bytes.size()) return ::testing::AssertionFailure() << name << ": size";
  if (std::memcmp(found.data(), tensor.bytes.data(), tensor.bytes.size()) != 0)
    return ::testing::AssertionFailure() << name << " differs";
  return ::testing::AssertionSuccess();
}

}  // namespace ember::testing
