// The fixtures of generate.py, and what every backend's test of them does with one.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "kernels/kernels.h"
#include "model/config.h"
#include "model/safetensors.h"
#include "model/weights.h"
#include "tests/support.h"

namespace ember::testing {

inline constexpr const char* kFixtures[] = {"heads2_dim26_layers3", "heads2_dim32_layers1", "heads1_dim64_layers1",
                                            "heads3_dim26_layers1"};

// A key's bias shifts all scores of a query alike, which softmax ignores: its true gradient is zero, and what is
// computed is rounding noise, which Adam scales up to full steps.
inline bool is_key_bias(const std::string& name) {
  return name.ends_with(".key.bias");
}

struct Fixture {
  explicit Fixture(const std::string& name)
      : config(read_config(source_dir() / "tests/golden" / (name + ".json"))),
        file(source_dir() / "tests/golden" / (name + ".safetensors")) {
    const std::vector<std::int32_t> lengths = integers<std::int32_t>("lengths");
    const std::vector<std::int32_t> tokens = integers<std::int32_t>("token_ids");
    const std::vector<std::uint8_t> targets = integers<std::uint8_t>("targets");
    std::size_t position = 0;
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      const auto length = static_cast<std::size_t>(lengths[i]);
      dataset.append(std::span(tokens).subspan(position, length), labels_of(targets, i));
      position += length;
    }
    std::int64_t sequence = 0;
    for (const std::int32_t count : integers<std::int32_t>("sequences")) {
      batches.emplace_back(static_cast<std::size_t>(count));
      std::iota(batches.back().begin(), batches.back().end(), sequence);
      sequence += count;
    }
  }

  const StoredTensor& stored(const std::string& name) const {
    const StoredTensor* tensor = file.find(name);
    check(tensor != nullptr, "the fixture lacks {}", name);
    return *tensor;
  }
  std::vector<float> floats(const std::string& name) const {
    std::vector<float> values(static_cast<std::size_t>(stored(name).elements()));
    copy_to_f32(stored(name), values.data());
    return values;
  }
  template <typename T>
  std::vector<T> integers(const std::string& name) const {
    const StoredTensor& tensor = stored(name);
    std::vector<T> values(static_cast<std::size_t>(tensor.elements()));
    check(tensor.bytes.size() == values.size() * sizeof(T), "{} has another type", name);
    std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
    return values;
  }
  std::vector<double> doubles(const std::string& name) const { return integers<double>(name); }

  // Sets `weights` to those that training starts from.
  void start(const BertWeights& weights, Kernels& kernels) const {
    for (const Parameter& parameter : weights.list) {
      EXPECT_EQ(stored("weights." + parameter.name).shape, parameter.shape) << parameter.name;
      const std::vector<float> values = floats("weights." + parameter.name);
      kernels.upload(parameter.value.f32(), values.data(), values.size() * sizeof(float));
    }
  }

  // The gradient of the word embedding has a row for each of `ids`, the different tokens of a batch; the others' are
  // zero.
  std::vector<float> expand(const std::vector<float>& rows, std::span<const std::int32_t> ids) const {
    const auto width = static_cast<std::size_t>(config.hidden);
    EXPECT_EQ(rows.size(), ids.size() * width);
    std::vector<float> table(static_cast<std::size_t>(config.vocabulary) * width);
    for (std::size_t u = 0; u < ids.size(); ++u)
      std::copy_n(rows.begin() + static_cast<std::ptrdiff_t>(u * width), width,
                  table.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(ids[u]) * width));
    return table;
  }

  std::vector<std::int32_t> labels_of(const std::vector<std::uint8_t>& targets, std::size_t sequence) const {
    const auto count = static_cast<std::size_t>(config.label_count());
    std::vector<std::int32_t> labels;
    for (std::size_t k = 0; k < count; ++k)
      if (targets[sequence * count + k] != 0) labels.push_back(static_cast<std::int32_t>(k));
    return labels;
  }

  BertConfig config;
  SafetensorsFile file;
  Dataset dataset;
  std::vector<std::vector<std::int64_t>> batches;  // indices into the data set
};

}  // namespace ember::testing
