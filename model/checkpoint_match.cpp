#include "model/checkpoint_match.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include "model/json_file.h"
#include "model/tokenizer_files.h"
#include "runtime/error.h"

namespace ember {
namespace {

namespace fs = std::filesystem;

// Rows that no token has: many models' vocabularies are padded to a multiple of 8, 64 or 128, as fast products like it.
constexpr std::int64_t kMostRowsWithoutToken = 128;
constexpr const char* kOtherProblem =
    "problem_type in config.json is not multi_label_classification, the only problem that Ember computes; where the "
    "classifier is for several labels at once, write that there";
constexpr const char* kNewOne = "; --new-classifier draws a new one";
constexpr std::int64_t kDefaultLabels = 2;  // of a config.json that names none, as Hugging Face has it

constexpr std::string_view kPooler = "bert.pooler.dense";
constexpr std::string_view kClassifier = "classifier";

// The file's tensors under the names that the model uses.
using Index = std::map<std::string, const StoredTensor*>;

// What DistributedDataParallel, torch.compile and a module of one's own, as Lightning has it, put before every name.
constexpr std::array<std::string_view, 3> kWrappers{"module.", "_orig_mod.", "model."};

std::string_view unwrapped(std::string_view name) {
  const auto leads = [&](std::string_view wrapper) { return name.starts_with(wrapper); };
  for (;;) {
    const auto* found = std::find_if(kWrappers.begin(), kWrappers.end(), leads);
    if (found == kWrappers.end()) return name;
    name.remove_prefix(found->size());
  }
}

// The model's name for a stored one: wrappers go before it, checkpoints of a bare BertModel lack `bert.`, early ones
// call LayerNorm's weight and bias gamma and beta.
std::string model_name(std::string_view stored) {
  std::string name(unwrapped(stored));
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

std::string difference_in_labels(std::int64_t rows, const std::vector<std::string>& model,
                                 const std::vector<std::string>& asked_for) {
  if (rows != std::ssize(asked_for))
    return fmt::format("the classifier has {} labels, expected {}", rows, asked_for.size());
  const auto differ = std::mismatch(model.begin(), model.end(), asked_for.begin(), asked_for.end());
  if (differ.first == model.end() || differ.second == asked_for.end())
    return fmt::format("{} names {} labels, expected {}", kConfigFile, model.size(), asked_for.size());
  return fmt::format("label {} of the classifier is {}, expected {}", differ.first - model.begin(),
                     printable(*differ.first), printable(*differ.second));
}

void drop_classifier(Index& index, LoadReport& report) {
  for (const char* member : {"weight", "bias"}) {
    if (const StoredTensor* tensor = find(index, kClassifier, member))
      report.ignored.push_back(printable(tensor->name));
    index.erase(fmt::format("{}.{}", kClassifier, member));
  }
}

// The labels in effect, into which the classifier of `index` must be, if there is one.
std::vector<std::string> choose_labels(const fs::path& file, const BertConfig& config, const LoadOptions& options,
                                       const Index& index) {
  const std::int64_t rows = classifier_rows(index);
  const bool present = has(index, kClassifier);
  check(!present || config.multi_label, "{}: {}{}", file.string(), kOtherProblem,
        options.labels || options.draw_classifier ? kNewOne : "");
  if (!options.labels) {
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
  if (!present || nameless || config.labels == names || config.labels == anonymous) return names;
  fail("{}: {}{}", file.string(), difference_in_labels(rows, config.labels, names), kNewOne);
}

void check_tensor(const StoredTensor& tensor, const Parameter& parameter) {
  const std::string where = tensor.where();
  check(is_floating(tensor), "{} is {}, expected F64, F32, F16 or BF16", where, tensor.description());
  if (tensor.shape == parameter.shape) return;
  const bool same_rank = tensor.shape.size() == parameter.shape.size();
  if (same_rank && parameter.name == "bert.embeddings.word_embeddings.weight" && tensor.shape[1] == parameter.shape[1])
    fail("{} has {} rows, but vocab_size in {} is {}", where, tensor.shape[0], kConfigFile, parameter.shape[0]);
  if (same_rank && parameter.name.starts_with(kClassifier) && tensor.shape[0] != parameter.shape[0])
    fail("{} has {} rows, but {} has {} labels", where, tensor.shape[0], kConfigFile, parameter.shape[0]);
  fail("{} is {}, expected [{}] by {}", where, tensor.description(), fmt::join(parameter.shape, ", "), kConfigFile);
}

// Per parameter the tensor that it is read from, null for what is drawn. What is found leaves `index`.
std::vector<const StoredTensor*> sources_of(const std::vector<Parameter>& list, const fs::path& file, Index& index,
                                            LoadReport& report) {
  const bool draw_pooler = !has(index, kPooler), draw_classifier = !has(index, kClassifier);
  std::vector<const StoredTensor*> sources;
  for (const Parameter& parameter : list) {
    const auto found = index.find(parameter.name);
    if (found != index.end()) {
      check_tensor(*found->second, parameter);
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
void report_ignored(const Index& rest, std::int64_t layers, LoadReport& report) {
  for (const auto& [name, tensor] : rest) {
    check(!name.starts_with("bert.encoder.layer."), "{} has no place in the {} layers of {}", tensor->where(), layers,
          kConfigFile);
    report.ignored.push_back(printable(tensor->name));
  }
}

// Names and shapes alone: nothing is allocated before the file has proved to hold what the config asks for.
std::vector<Parameter> expected_parameters(const BertConfig& config) {
  Arena measure;
  return parameters(config, lay_out(config, measure, config.vocabulary));
}

// A model is of no use whose config.json cannot be read back.
void require_storable(BertConfig config, const Labels& labels) {
  check(labels.size() > 0, "no label to classify into was given");
  check(labels.size() <= kMaxLabels, "{} labels to classify into, at most {} were expected", labels.size(), kMaxLabels);
  config.labels = labels.names();
  const std::size_t bytes = config_json(config).size();
  check(bytes <= kMaxJsonBytes, "the names of the labels make {} bytes of {}, at most {} were expected", bytes,
        kConfigFile, kMaxJsonBytes);
}

}  // namespace

void check_vocabulary(const fs::path& file, const Vocabulary& vocabulary, std::int64_t rows) {
  const std::int64_t lines = std::ssize(vocabulary.tokens());
  check(lines > 0, "{}: is empty, a token a line was expected", file.string());
  check(lines <= rows && rows - lines < kMostRowsWithoutToken, "{}: has {} lines, but vocab_size in {} is {}",
        file.string(), lines, kConfigFile, rows);
}

Surroundings read_surroundings(const CheckpointFiles& files, const LoadOptions& options) {
  BertConfig config = read_config(files.config);
  TokenizerSource tokenizer = read_tokenizer(files.vocabulary, files.config);
  check_vocabulary(tokenizer.vocabulary.file(), tokenizer.vocabulary, config.vocabulary);
  if (options.labels) require_storable(config, *options.labels);
  return {std::move(config), std::move(tokenizer)};
}

CheckpointMatch match_checkpoint(const CheckpointFiles& files, const Surroundings& around, const LoadOptions& options) {
  Index index = index_of(files.tensors, files.weights);
  CheckpointMatch match{around.config, around.tokenizer, {}, {}, {}};
  if (options.replace_classifier) drop_classifier(index, match.report);
  match.config.labels = choose_labels(files.weights, around.config, options, index);
  match.config.multi_label = true;  // of the classifier that is kept or drawn
  // One that reads something else, each token say.
  check(has(index, kPooler) || !has(index, kClassifier),
        "{}: has a classifier but no pooler, whose output Ember's classifier reads{}", files.weights.string(),
        options.labels || options.draw_classifier ? kNewOne : "");
  match.list = expected_parameters(match.config);
  match.sources = sources_of(match.list, files.weights, index, match.report);
  report_ignored(index, match.config.layers, match.report);
  return match;
}

void append_tensors(std::vector<TensorToStore>& tensors, const BertWeights& weights, const HostView& view,
                    std::string_view prefix) {
  for (const Parameter& parameter : weights.list)
    tensors.push_back(
        {{std::string(prefix) + parameter.name, "F32", parameter.shape}, std::as_bytes(view.of(parameter))});
}

void draw_parameter(const Parameter& parameter, std::size_t index, const BertConfig& config, std::uint64_t seed,
                    float* out, int threads) {
  draw(parameter, config.initializer_range, seed, static_cast<std::uint32_t>(index), out, threads);
  // The row of padding is zero, as an untrained one is.
  if (index == 0) std::fill_n(out + config.pad_token_id * config.hidden, config.hidden, 0.0f);
}

}  // namespace ember
