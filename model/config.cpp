#include "model/config.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <initializer_list>
#include <set>

#include "data/strict_json.h"
#include "model/json_file.h"
#include "runtime/error.h"
#include "runtime/philox.h"

namespace ember {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr const char* kMultiLabel = "multi_label_classification";
constexpr std::int64_t kMaxSize = std::int64_t{1} << 24;
constexpr double kMaxParameters = 0x1p40;

// The values of one config.json, checked one by one; every complaint names the file and the key.
class ConfigReader {
 public:
  explicit ConfigReader(const std::filesystem::path& path) : path_(path), object_(read_json_object(path)) {}

  const json* find(const char* key) const {
    const auto found = object_.find(key);
    return found == object_.end() ? nullptr : &*found;
  }

  std::int64_t size(const char* key, std::int64_t min = 1, std::int64_t max = kMaxSize) const {
    const json* value = find(key);
    if (value == nullptr) refuse(key, "is missing");
    return integer(key, *value, min, max);
  }
  std::int64_t integer(const char* key, std::int64_t otherwise, std::int64_t min, std::int64_t max) const {
    const json* value = find(key);
    return value == nullptr || value->is_null() ? otherwise : integer(key, *value, min, max);
  }

  // A number in [min, max], as a float.
  float number(const char* key, float otherwise, float min, float max) const {
    const json* value = find(key);
    if (value == nullptr) return otherwise;
    if (!value->is_number()) refuse(key, "must be a number, not " + shown(*value));
    const auto number = static_cast<float>(value->get<double>());
    if (!(number >= min && number <= max))
      refuse(key, fmt::format("is {}, expected {} to {}", shown(*value), min, max));
    return number;
  }
  float probability(const char* key, float otherwise) const {
    return number(key, otherwise, 0, std::nextafter(1.0f, 0.0f));
  }

  // Ember computes one thing of this key only, by any of these names, which is also what its absence means.
  void require(const char* key, std::initializer_list<json> names) const {
    const json* value = find(key);
    if (value != nullptr && std::find(names.begin(), names.end(), *value) == names.end())
      refuse(key, fmt::format("is {}, but Ember computes {} only", shown(*value), names.begin()->dump()));
  }

  std::vector<std::string> labels() const {
    const json* names = find("id2label");
    const json* count = find("num_labels");
    if (count == nullptr && names == nullptr) return {};
    if (names == nullptr) return anonymous_labels(integer("num_labels", *count, 1, kMaxLabels));
    std::vector<std::string> labels = named_labels(*names);
    const auto size = static_cast<std::int64_t>(labels.size());
    if (count != nullptr && integer("num_labels", *count, 1, kMaxLabels) != size)
      refuse("num_labels", fmt::format("is {}, but id2label names {} labels", count->dump(), size));
    return labels;
  }

  [[noreturn]] void refuse(const char* key, const std::string& complaint) const {
    fail("{}: {} {}", path_.string(), key, complaint);
  }

 private:
  static std::string shown(const json& value) { return printable(value.dump(-1, ' ', true), 40); }

  std::int64_t integer(const char* key, const json& value, std::int64_t min, std::int64_t max) const {
    if (!value.is_number_integer()) refuse(key, "must be an integer, not " + shown(value));
    // An unsigned value past the signed range would wrap.
    const bool huge = value.is_number_unsigned() && value.get<std::uint64_t>() > static_cast<std::uint64_t>(max);
    if (huge || value.get<std::int64_t>() < min || value.get<std::int64_t>() > max)
      refuse(key, fmt::format("is {}, expected {} to {}", shown(value), min, max));
    return value.get<std::int64_t>();
  }

  // {"0": "admiration", "1": ...}: every id from 0 to K - 1 once, in any order.
  std::vector<std::string> named_labels(const json& names) const {
    if (!names.is_object()) refuse("id2label", "must be an object, not " + shown(names));
    if (names.size() > static_cast<std::size_t>(kMaxLabels))
      refuse("id2label", fmt::format("has {} labels, at most {} were expected", names.size(), kMaxLabels));
    std::vector<std::string> labels;
    std::set<std::string> seen;
    for (std::size_t id = 0; id < names.size(); ++id) {
      const auto found = names.find(std::to_string(id));
      if (found == names.end())
        refuse("id2label", fmt::format("has {} labels, but none with the id {}", names.size(), id));
      if (!found->is_string()) refuse("id2label", fmt::format("gives id {} no name but {}", id, shown(*found)));
      const auto& name = found->get_ref<const std::string&>();
      if (name.empty()) refuse("id2label", fmt::format("gives id {} an empty name", id));
      if (!seen.insert(name).second) refuse("id2label", fmt::format("names the label \"{}\" twice", printable(name)));
      labels.push_back(name);
    }
    return labels;
  }

  std::filesystem::path path_;
  json object_;
};

// The double whose shortest decimal is the float's, so that 0.1f is written as 0.1. Not by stod, for which the locale
// of the program that uses this may have a comma where the point stands.
double decimal(float value) {
  const std::string text = fmt::format("{}", value);
  double out = 0;
  std::from_chars(text.data(), text.data() + text.size(), out);
  return out;
}

// In double, where nothing overflows.
double parameter_count(const BertConfig& config) {
  const auto C = static_cast<double>(config.hidden), F = static_cast<double>(config.ffn);
  const auto rows = static_cast<double>(config.vocabulary + config.positions + config.types + config.label_count());
  return C * rows + static_cast<double>(config.layers) * (4 * C * C + 2 * C * F);
}

}  // namespace

std::vector<std::string> anonymous_labels(std::int64_t count) {
  std::vector<std::string> labels;
  for (std::int64_t id = 0; id < count; ++id) labels.push_back(fmt::format("LABEL_{}", id));
  return labels;
}

BertConfig read_config(const std::filesystem::path& path) {
  const ConfigReader reader(path);
  reader.require("model_type", {"bert"});
  reader.require("hidden_act", {"gelu", "gelu_python"});
  reader.require("position_embedding_type", {"absolute", nullptr});
  reader.require("transformers_weights", {"model.safetensors"});  // the file that transformers reads instead
  reader.require("is_decoder", {false});
  reader.require("add_cross_attention", {false});

  BertConfig config;
  config.vocabulary = reader.size("vocab_size");
  config.hidden = reader.size("hidden_size");
  config.layers = reader.size("num_hidden_layers", 1, kMostLayers);
  config.heads = reader.size("num_attention_heads");
  config.ffn = reader.size("intermediate_size");
  config.positions = reader.size("max_position_embeddings", 2);  // [CLS] and [SEP]
  config.types = reader.integer("type_vocab_size", 2, 1, kMaxSize);
  config.layer_norm_eps = reader.number("layer_norm_eps", config.layer_norm_eps, 1e-30f, 1);
  config.hidden_dropout = reader.probability("hidden_dropout_prob", config.hidden_dropout);
  config.attention_dropout = reader.probability("attention_probs_dropout_prob", config.attention_dropout);
  const json* dropout = reader.find("classifier_dropout");
  config.classifier_dropout = dropout == nullptr || dropout->is_null()
                                  ? config.hidden_dropout
                                  : reader.probability("classifier_dropout", config.hidden_dropout);
  config.initializer_range = reader.number("initializer_range", config.initializer_range, 0, 1);
  config.pad_token_id = static_cast<std::int32_t>(reader.integer("pad_token_id", 0, 0, config.vocabulary - 1));
  config.labels = reader.labels();
  const json* problem = reader.find("problem_type");
  // Without the key transformers takes the likeliest of several labels, and those of a config without names are two.
  config.multi_label = problem == nullptr || problem->is_null() ? config.labels.size() == 1 : *problem == kMultiLabel;

  if (config.hidden % config.heads != 0)
    reader.refuse("num_attention_heads",
                  fmt::format("is {}, which does not divide hidden_size {}", config.heads, config.hidden));
  check(parameter_count(config) <= kMaxParameters, "{}: the sizes ask for more than 2^40 weights", path.string());
  return config;
}

std::string config_json(const BertConfig& config, DType weights) {
  ordered_json out;
  out["architectures"] = {"BertForSequenceClassification"};
  out["model_type"] = "bert";
  out["vocab_size"] = config.vocabulary;
  out["hidden_size"] = config.hidden;
  out["num_hidden_layers"] = config.layers;
  out["num_attention_heads"] = config.heads;
  out["intermediate_size"] = config.ffn;
  out["max_position_embeddings"] = config.positions;
  out["type_vocab_size"] = config.types;
  out["hidden_act"] = "gelu";
  out["position_embedding_type"] = "absolute";
  out["hidden_dropout_prob"] = decimal(config.hidden_dropout);
  out["attention_probs_dropout_prob"] = decimal(config.attention_dropout);
  out["classifier_dropout"] = decimal(config.classifier_dropout);
  out["initializer_range"] = decimal(config.initializer_range);
  out["layer_norm_eps"] = decimal(config.layer_norm_eps);
  out["pad_token_id"] = config.pad_token_id;
  out["torch_dtype"] = weights == DType::f16 ? "float16" : "float32";
  out["problem_type"] = kMultiLabel;
  if (!config.labels.empty()) {
    ordered_json names = ordered_json::object(), ids = ordered_json::object();
    for (std::size_t id = 0; id < config.labels.size(); ++id) {
      names[std::to_string(id)] = config.labels[id];
      ids[config.labels[id]] = id;
    }
    out["id2label"] = std::move(names);
    out["label2id"] = std::move(ids);
  }
  try {
    return out.dump(2) + "\n";
  } catch (const json::exception& error) {
    fail("config.json cannot be written, a label's name is not UTF-8: {}", json_complaint(error));
  }
}

}  // namespace ember
