#include "model/hugging_face.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "model/checkpoint_match.h"
#include "model/safetensors.h"
#include "model/stored_tensor.h"
#include "model/tokenizer_files.h"
#include "model/weight_files.h"
#include "runtime/error.h"
#include "runtime/file.h"

namespace ember {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

void fill(const BertWeights& weights, const std::vector<const StoredTensor*>& sources, const BertConfig& config,
          const LoadOptions& options, Kernels& kernels) {
  const HostDraft draft(weights, kernels);
  for (std::size_t i = 0; i < weights.list.size(); ++i) {
    const Parameter& parameter = weights.list[i];
    float* const out = draft.of(parameter);
    if (sources[i] != nullptr) {
      copy_to_f32(*sources[i], out);
      check(all_finite(out, parameter.value.size(), DType::f32), "{} has numbers that are not finite",
            sources[i]->where());
      continue;
    }
    draw_parameter(parameter, i, config, options.seed, out, options.threads);
  }
  draft.upload();
}

LoadedModel from_scratch(const CheckpointFiles& files, const Surroundings& around, Kernels& kernels,
                         const LoadOptions& options) {
  BertConfig config = around.config;
  if (options.labels) config.labels = options.labels->names();
  config.multi_label = true;
  check(!config.labels.empty(), "{}: id2label is missing, and no labels were given", files.config.string());
  LoadReport report;
  BertWeights weights(config, kernels);
  for (const Parameter& parameter : weights.list) report.initialised.push_back(parameter.name);
  fill(weights, std::vector<const StoredTensor*>(weights.list.size()), config, options, kernels);
  return {std::move(config), std::move(weights), around.tokenizer, std::move(report)};
}

// A token that the vocabulary lacks, as [MASK] may be, is null: whether it is named or not, transformers would add it,
// with an id for which there are no weights.
ordered_json special_tokens(const std::vector<std::string>& tokens) {
  ordered_json out;
  for (const auto& [role, token] : kRoleTokens)
    out[role] = has_token(tokens, token) ? ordered_json(token) : ordered_json();
  return out;
}

ordered_json tokenizer_config(const BertConfig& config, const ordered_json& special, const TokenizerSource& tokenizer) {
  ordered_json out = special;
  out["tokenizer_class"] = "BertTokenizer";
  out["do_lower_case"] = tokenizer.lower_case;
  out["strip_accents"] = nullptr;
  out["tokenize_chinese_chars"] = true;
  out["model_max_length"] = std::min(tokenizer.max_length.value_or(config.positions), config.positions);
  return out;
}

void write_weights(const fs::path& path, const BertWeights& weights, const HostView& view) {
  std::vector<TensorToStore> tensors;
  append_tensors(tensors, weights, view);
  write_file_atomically(path, [&](FileWriter& file) { write_safetensors(file, tensors, {{"format", "pt"}}); });
}

CheckpointFiles files_of(const fs::path& directory) {
  require_directory(directory, "of a model");
  return {directory / kConfigFile, directory / kVocabularyFile, {}, {}};
}

}  // namespace

fs::path weights_path(const fs::path& directory) {
  const fs::path path = directory / kWeightsFile;
  if (fs::exists(path)) return path;
  if (fs::exists(directory / kShardsFile)) return directory / kShardsFile;
  check(!fs::exists(directory / kTorchWeightsFile), "{}: has {} but no {}: convert_hf makes one of it",
        directory.string(), kTorchWeightsFile, kWeightsFile);
  fail("{}: holds no {}, nor {}", directory.string(), kWeightsFile, kShardsFile);
}

void require_no_adapter(const fs::path& directory) {
  check(!fs::exists(directory / kAdapterFile),
        "{}: holds {}, of an adapter, which Ember does not compute; save the model elsewhere with it merged in (PEFT's "
        "merge_and_unload)",
        directory.string(), kAdapterFile);
}

TokenizerSource tokenizer_of(const fs::path& directory) {
  return read_surroundings(files_of(directory), {}).tokenizer;
}

LoadedModel load_hugging_face(const fs::path& directory, Kernels& kernels, const LoadOptions& options) {
  CheckpointFiles files = files_of(directory);
  if (!options.from_scratch) require_no_adapter(directory);  // first: alone, it has no config.json beside it
  const FolderAtPath folder(directory);
  const Surroundings around = read_surroundings(files, options);
  if (options.from_scratch) return from_scratch(files, around, kernels, options);
  const WeightFiles stored(weights_path(directory));
  // By convert_hf --force or a link that was turned: these weights' labels may stand in another order than those read.
  check(FolderAtPath(directory) == folder, "{}: was replaced while it was read; read it again", directory.string());
  files.weights = stored.path();
  files.tensors = stored.tensors();
  CheckpointMatch match = match_checkpoint(files, around, options);
  BertWeights weights(match.config, kernels);
  fill(weights, match.sources, match.config, options, kernels);
  return {std::move(match.config), std::move(weights), std::move(match.tokenizer), std::move(match.report)};
}

void save_surroundings(const fs::path& directory, const BertConfig& config, const TokenizerSource& tokenizer,
                       DType weights, const WriteFile& write) {
  check_vocabulary(directory / kVocabularyFile, tokenizer.vocabulary, config.vocabulary);
  const ordered_json special = special_tokens(tokenizer.vocabulary.tokens());
  write(directory / kConfigFile, config_json(config, weights));
  write(directory / kVocabularyFile, tokenizer.vocabulary.text());
  write(directory / kTokenizerFile, tokenizer_config(config, special, tokenizer).dump(2) + "\n");
  write(directory / kSpecialTokensFile, special.dump(2) + "\n");
}

void save_hugging_face(const fs::path& directory, const BertConfig& config, const BertWeights& weights,
                       Kernels& kernels, const TokenizerSource& tokenizer) {
  const HostView view(weights, kernels);
  for (const Parameter& parameter : weights.list)
    check(all_finite(view.of(parameter).data(), parameter.value.size(), DType::f32),
          "{}: {} has numbers that are not finite, which are not saved", (directory / kWeightsFile).string(),
          parameter.name);
  bool ready = false;  // once all that can be wrong has been found, and before the first file
  save_surroundings(directory, config, tokenizer, DType::f32, [&](const fs::path& path, std::string_view content) {
    if (!std::exchange(ready, true)) require_writable_directory(directory);
    write_file_atomically(path, content);
  });
  write_weights(directory / kWeightsFile, weights, view);
}

}  // namespace ember
