#include "model/hugging_face.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include "model/json_file.h"
#include "model/safetensors.h"
#include "runtime/error.h"
#include "runtime/file.h"

namespace ember {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using nlohmann::ordered_json;

constexpr const char* kConfig = "config.json";
constexpr const char* kWeights = "model.safetensors";
constexpr const char* kVocabulary = "vocab.txt";
constexpr const char* kTokenizer = "tokenizer_config.json";
constexpr const char* kSpecialTokens = "special_tokens_map.json";

constexpr std::int64_t kDefaultLabels = 2;  // of a config.json that names none, as Hugging Face has it

constexpr std::string_view kPooler = "bert.pooler.dense";
constexpr std::string_view kClassifier = "classifier";

// The file's tensors under the names that the model uses.
using Index = std::map<std::string, const StoredTensor*>;

// The model's name for a stored one: checkpoints of a bare BertModel lack `bert.`, early ones call LayerNorm's weight
// and bias gamma and beta.
std::string model_name(std::string name) {
  for (const char* part : {"embeddings.", "encoder.", "pooler."})
    if (name.starts_with(part)) name = "bert." + name;
  constexpr std::array<std::pair<std::string_view, const char*>, 2> kOldNames{
      {{"LayerNorm.gamma", "weight"}, {"LayerNorm.beta", "bias"}}};
  for (const auto& [old_name, now] : kOldNames)
    if (name.ends_with(old_name)) name.replace(name.rfind('.') + 1, name.npos, now);
  return name;
}

Index index_of(std::span<const StoredTensor> tensors, const fs::path& file) {
  Index index;
  for (const StoredTensor& tensor : tensors) {
    const auto [place, fresh] = index.emplace(model_name(tensor.name), &tensor);
    check(fresh, "{}: tensors {} and {} are both {}", file.string(), printable(place->second->name),
          printable(tensor.name), printable(place->first));
  }
  return index;
}

const StoredTensor* find(const Index& index, std::string_view module, const char* member) {
  const auto found = index.find(fmt::format("{}.{}", module, member));
  return found == index.end() ? nullptr : found->second;
}

bool has(const Index& index, std::string_view module) {
  return find(index, module, "weight") != nullptr || find(index, module, "bias") != nullptr;
}

// The number of labels of the file's classifier; 0 without one.
std::int64_t classifier_rows(const Index& index) {
  for (const char* member : {"weight", "bias"})
    if (const StoredTensor* tensor = find(index, kClassifier, member))
      if (!tensor->shape.empty()) return tensor->shape[0];
  return 0;
}

std::int64_t count_lines(std::string_view text) {
  const bool open_line = !text.empty() && text.back() != '\n';
  return std::count(text.begin(), text.end(), '\n') + (open_line ? 1 : 0);
}

void check_vocabulary(const fs::path& path, std::string_view content, std::int64_t vocabulary) {
  const std::int64_t lines = count_lines(content);
  check(lines > 0, "{}: is empty, a token a line was expected", path.string());
  check(lines == vocabulary, "{}: has {} lines, but vocab_size in {} is {}", path.string(), lines, kConfig, vocabulary);
}

// Reads do_lower_case, and refuses what the tokenizer does not do.
bool read_lower_case(const fs::path& path) {
  if (!fs::exists(path)) return true;
  const json object = read_json_object(path);
  const auto flag = [&](const char* key, bool otherwise) {
    const auto found = object.find(key);
    if (found == object.end() || found->is_null()) return otherwise;
    check(found->is_boolean(), "{}: {} must be true or false", path.string(), key);
    return found->get<bool>();
  };
  const bool lower_case = flag("do_lower_case", true);
  check(flag("strip_accents", lower_case) == lower_case,
        "{}: strip_accents is {}, but Ember does as do_lower_case says", path.string(), !lower_case);
  check(flag("tokenize_chinese_chars", true), "{}: tokenize_chinese_chars is false, but Ember sets them apart",
        path.string());
  return lower_case;
}

// The labels in effect. A classifier into others leaves `index`, so that a new one is drawn.
std::vector<std::string> choose_labels(const fs::path& file, const BertConfig& config, const LoadOptions& options,
                                       Index& index, LoadReport& report) {
  const std::int64_t rows = classifier_rows(index);
  if (!options.labels) {
    const bool present = has(index, kClassifier);
    check(present || options.draw_classifier, "{}: tensor classifier.weight is missing: the model is not fine-tuned",
          file.string());
    if (!config.labels.empty()) return config.labels;
    if (!present) return anonymous_labels(kDefaultLabels);
    check(rows > 0 && rows <= kMaxLabels, "{}: the classifier has {} labels, expected 1 to {}", file.string(), rows,
          kMaxLabels);
    return anonymous_labels(rows);
  }
  const std::vector<std::string>& names = options.labels->names();
  const std::vector<std::string> anonymous = anonymous_labels(options.labels->size());
  const bool nameless = config.labels.empty() && rows == options.labels->size();
  if (nameless || config.labels == names || config.labels == anonymous) return names;
  for (const char* member : {"weight", "bias"}) {
    if (const StoredTensor* tensor = find(index, kClassifier, member))
      report.ignored.push_back(printable(tensor->name));
    index.erase(fmt::format("{}.{}", kClassifier, member));
  }
  return names;
}

void check_tensor(const StoredTensor& tensor, const Parameter& parameter, const fs::path& file) {
  const std::string where = fmt::format("{}: tensor {}", file.string(), printable(tensor.name));
  check(is_floating(tensor), "{} is {}, expected F64, F32, F16 or BF16", where, tensor.description());
  if (tensor.shape == parameter.shape) return;
  const bool same_rank = tensor.shape.size() == parameter.shape.size();
  if (same_rank && parameter.name == "bert.embeddings.word_embeddings.weight" && tensor.shape[1] == parameter.shape[1])
    fail("{} has {} rows, but vocab_size in {} is {}", where, tensor.shape[0], kConfig, parameter.shape[0]);
  if (same_rank && parameter.name.starts_with(kClassifier) && tensor.shape[0] != parameter.shape[0])
    fail("{} has {} rows, but {} has {} labels", where, tensor.shape[0], kConfig, parameter.shape[0]);
  fail("{} is {}, expected [{}] by {}", where, tensor.description(), fmt::join(parameter.shape, ", "), kConfig);
}

// Per parameter the tensor that it is read from, null for what is drawn. What is found leaves `index`.
std::vector<const StoredTensor*> match(const std::vector<Parameter>& list, const fs::path& file, Index& index,
                                       LoadReport& report) {
  const bool draw_pooler = !has(index, kPooler), draw_classifier = !has(index, kClassifier);
  std::vector<const StoredTensor*> sources;
  for (const Parameter& parameter : list) {
    const auto found = index.find(parameter.name);
    if (found != index.end()) {
      check_tensor(*found->second, parameter, file);
      sources.push_back(found->second);
      if (found->second->name != parameter.name)
        report.renamed.push_back(fmt::format("{} -> {}", printable(found->second->name), parameter.name));
      index.erase(found);
      continue;
    }
    const bool may_be_drawn = (draw_pooler && parameter.name.starts_with(kPooler)) ||
                              (draw_classifier && parameter.name.starts_with(kClassifier));
    check(may_be_drawn, "{}: tensor {} is missing, expected [{}]", file.string(), parameter.name,
          fmt::join(parameter.shape, ", "));
    sources.push_back(nullptr);
    report.initialised.push_back(parameter.name);
  }
  return sources;
}

// What is left in the file after match: fine beside the encoder, a contradiction within its layers.
void report_ignored(const Index& rest, const fs::path& file, std::int64_t layers, LoadReport& report) {
  for (const auto& [name, tensor] : rest) {
    check(!name.starts_with("bert.encoder.layer."), "{}: tensor {} has no place in the {} layers of {}", file.string(),
          printable(tensor->name), layers, kConfig);
    report.ignored.push_back(printable(tensor->name));
  }
}

// Names and shapes alone: nothing is allocated before the file has proved to hold what the config asks for.
std::vector<Parameter> expected_parameters(const BertConfig& config) {
  Arena measure;
  return parameters(config, lay_out(config, measure, config.vocabulary));
}

// Where in a host image of the weights' memory a parameter lies.
std::byte* in_image(const Buffer& image, const BertWeights& weights, const Parameter& parameter) {
  return static_cast<std::byte*>(image.data()) +
         (static_cast<const std::byte*>(parameter.value.data) - static_cast<const std::byte*>(weights.memory.data()));
}

void fill(const BertWeights& weights, const std::vector<const StoredTensor*>& sources, const BertConfig& config,
          std::uint64_t seed, Kernels& kernels) {
  const Buffer image = host_buffer(weights.memory.size());
  for (std::size_t i = 0; i < weights.list.size(); ++i) {
    const Parameter& parameter = weights.list[i];
    auto* out = reinterpret_cast<float*>(in_image(image, weights, parameter));
    if (sources[i] != nullptr) {
      copy_to_f32(*sources[i], out);
      continue;
    }
    draw(parameter, config.initializer_range, seed, static_cast<std::uint32_t>(i), out);
    if (i == 0) std::fill_n(out + config.pad_token_id * config.hidden, config.hidden, 0.0f);  // as an untrained one is
  }
  kernels.upload(weights.memory.data(), image.data(), weights.memory.size());
}

// What stands beside the weights.
struct Surroundings {
  BertConfig config;
  bool lower_case = true;
};

Surroundings read_surroundings(const CheckpointFiles& files, const LoadOptions& options) {
  BertConfig config = read_config(files.config);
  const fs::path folder = files.vocabulary.parent_path();
  check(fs::exists(files.vocabulary) || !fs::exists(folder / "tokenizer.json"),
        "{}: has tokenizer.json but no {}, a token a line, which Ember reads", folder.string(), kVocabulary);
  check_vocabulary(files.vocabulary, read_file(files.vocabulary), config.vocabulary);
  const bool lower_case = read_lower_case(files.tokenizer);
  check(!options.labels || options.labels->size() > 0, "no label to classify into was given");
  return {std::move(config), lower_case};
}

LoadedModel from_scratch(const CheckpointFiles& files, const Surroundings& around, Kernels& kernels,
                         const LoadOptions& options) {
  BertConfig config = around.config;
  if (options.labels) config.labels = options.labels->names();
  check(!config.labels.empty(), "{}: id2label is missing, and no labels were given", files.config.string());
  LoadReport report;
  BertWeights weights(config, kernels);
  for (const Parameter& parameter : weights.list) report.initialised.push_back(parameter.name);
  fill(weights, std::vector<const StoredTensor*>(weights.list.size()), config, options.seed, kernels);
  return {std::move(config), std::move(weights), around.lower_case, std::move(report)};
}

LoadedModel from_tensors(const CheckpointFiles& files, const Surroundings& around, Kernels& kernels,
                         const LoadOptions& options) {
  BertConfig config = around.config;
  Index index = index_of(files.tensors, files.weights);
  LoadReport report;
  config.labels = choose_labels(files.weights, config, options, index, report);
  const auto sources = match(expected_parameters(config), files.weights, index, report);
  report_ignored(index, files.weights, config.layers, report);
  BertWeights weights(config, kernels);
  fill(weights, sources, config, options.seed, kernels);
  return {std::move(config), std::move(weights), around.lower_case, std::move(report)};
}

ordered_json special_tokens() {
  return {{"unk_token", "[UNK]"},
          {"sep_token", "[SEP]"},
          {"pad_token", "[PAD]"},
          {"cls_token", "[CLS]"},
          {"mask_token", "[MASK]"}};
}

ordered_json tokenizer_config(const BertConfig& config, bool lower_case) {
  ordered_json out = special_tokens();
  out["tokenizer_class"] = "BertTokenizer";
  out["do_lower_case"] = lower_case;
  out["strip_accents"] = nullptr;
  out["tokenize_chinese_chars"] = true;
  out["model_max_length"] = config.positions;
  return out;
}

void write_weights(const fs::path& path, const BertWeights& weights, Kernels& kernels) {
  const Buffer image = host_buffer(weights.memory.size());
  kernels.download(image.data(), weights.memory.data(), weights.memory.size());
  std::vector<TensorToStore> tensors;
  for (const Parameter& parameter : weights.list) {
    const auto bytes = static_cast<std::size_t>(parameter.value.size()) * sizeof(float);
    tensors.push_back({parameter.name, "F32", parameter.shape, {in_image(image, weights, parameter), bytes}});
  }
  write_file_atomically(path, [&](FileWriter& file) { write_safetensors(file, tensors, {{"format", "pt"}}); });
}

}  // namespace

fs::path weights_path(const fs::path& directory) {
  const fs::path path = directory / kWeights;
  if (fs::exists(path)) return path;
  check(!fs::exists(directory / "pytorch_model.bin"),
        "{}: has pytorch_model.bin but no {}: tools/convert_hf converts it", directory.string(), kWeights);
  check(!fs::exists(directory / "model.safetensors.index.json"),
        "{}: the weights are split over several files, one {} was expected", directory.string(), kWeights);
  fail("{}: no such file", path.string());
}

LoadedModel load_checkpoint(const CheckpointFiles& files, Kernels& kernels, const LoadOptions& options) {
  const Surroundings around = read_surroundings(files, options);
  return from_tensors(files, around, kernels, options);
}

LoadedModel load_hugging_face(const fs::path& directory, Kernels& kernels, const LoadOptions& options) {
  CheckpointFiles files{directory / kConfig, directory / kVocabulary, directory / kTokenizer, {}, {}};
  const Surroundings around = read_surroundings(files, options);
  if (options.from_scratch) return from_scratch(files, around, kernels, options);
  const SafetensorsFile file(weights_path(directory));
  files.weights = file.path();
  files.tensors = file.tensors();
  return from_tensors(files, around, kernels, options);
}

void save_hugging_face(const fs::path& directory, const BertConfig& config, const BertWeights& weights,
                       Kernels& kernels, const SaveOptions& options) {
  const std::string vocabulary = read_file(options.vocabulary);
  check_vocabulary(options.vocabulary, vocabulary, config.vocabulary);
  const std::string config_text = config_json(config);
  require_writable_directory(directory);
  write_file_atomically(directory / kConfig, config_text);
  write_file_atomically(directory / kVocabulary, vocabulary);
  write_file_atomically(directory / kTokenizer, tokenizer_config(config, options.lower_case).dump(2) + "\n");
  write_file_atomically(directory / kSpecialTokens, special_tokens().dump(2) + "\n");
  write_weights(directory / kWeights, weights, kernels);
}

}  // namespace ember
