// A Hugging Face directory: config.json, model.safetensors (or its shards), vocab.txt (or, to read, tokenizer.json),
// tokenizer_config.json, special_tokens_map.json.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/examples.h"
#include "data/tokenizer.h"
#include "model/config.h"
#include "model/weights.h"

namespace ember {

inline constexpr const char* kConfigFile = "config.json";
inline constexpr const char* kWeightsFile = "model.safetensors";
inline constexpr const char* kShardsFile = "model.safetensors.index.json";
inline constexpr const char* kTorchWeightsFile = "pytorch_model.bin";
inline constexpr const char* kVocabularyFile = "vocab.txt";
inline constexpr const char* kTokenizerFile = "tokenizer_config.json";
inline constexpr const char* kFastTokenizerFile = "tokenizer.json";  // transformers reads it rather than vocab.txt
inline constexpr const char* kAddedTokensFile = "added_tokens.json";
inline constexpr const char* kSpecialTokensFile = "special_tokens_map.json";
inline constexpr const char* kAdapterFile = "adapter_config.json";  // where PEFT is installed transformers adds it
// All that save_hugging_face writes.
inline constexpr std::array kModelFiles{kConfigFile, kWeightsFile, kVocabularyFile, kTokenizerFile, kSpecialTokensFile};

struct LoadOptions {
  // The labels to classify into, where the data decide them. A classifier into just these names (or as many anonymous
  // LABEL_n ones) is kept; any other, or one for another problem, is an Error; a missing one is drawn.
  // Without: the directory must have a classifier.
  std::optional<Labels> labels;
  bool replace_classifier = false;  // whatever classifier the directory has is taken for missing
  std::uint64_t seed = 42;          // for what is drawn
  int threads = 1;                  // so many draw it, 0 for all; the values do not depend on them
  bool from_scratch = false;        // draw every weight; model.safetensors is not read
  // Without labels: a classifier that is missing is drawn too, into config.json's labels or else into two.
  bool draw_classifier = false;
};

struct LoadReport {
  std::vector<std::string> initialised;  // names drawn afresh: classifier, pooler
  std::vector<std::string> ignored;      // tensors in the file that the model has no use for
  std::vector<std::string> renamed;      // "from -> to"
};

struct LoadedModel {
  BertConfig config;  // with the labels in effect
  BertWeights weights;
  TokenizerSource tokenizer;
  LoadReport report;
};

// Reads a directory. Names: `module.`, `_orig_mod.` and `model.` may go before, `bert.` may be missing,
// LayerNorm.gamma/beta are weight/bias; what else there is, such as position_ids, cls.* and fit_dense*, is ignored,
// unless it is of an encoder layer, which is an Error; a missing classifier is drawn where `options` allow it, and a
// missing pooler beside it; any other missing or mis-shaped tensor is an Error that names it, the file, what was
// expected and what is there. So is a classifier that is kept but whose problem_type is not multi-label or that has
// no pooler beside it, a tokenizer with other tokens than BertTokenizer (tokenizer_files.h), an adapter, a weight
// that is not finite, and a vocabulary of more than config.vocabulary lines, or of fewer by 128 or more.
LoadedModel load_hugging_face(const std::filesystem::path& directory, Kernels& kernels,
                              const LoadOptions& options = {});

// The tokenizer of a directory. Errors as load_hugging_face has them.
TokenizerSource tokenizer_of(const std::filesystem::path& directory);

// The weights of a directory: model.safetensors, or model.safetensors.index.json where they are split over several
// files; an Error that says what there is instead.
std::filesystem::path weights_path(const std::filesystem::path& directory);

// Error where an adapter lies there: beside weights, which without it give other scores than transformers, or alone.
void require_no_adapter(const std::filesystem::path& directory);

// Writes all but the weights into a folder, each file by `write`: what stands beside model.safetensors so that
// AutoModelForSequenceClassification and AutoTokenizer load it. The type of the weights is `weights`, f32 or f16.
using WriteFile = std::function<void(const std::filesystem::path&, std::string_view content)>;
void save_surroundings(const std::filesystem::path& directory, const BertConfig& config,
                       const TokenizerSource& tokenizer, DType weights, const WriteFile& write);

// Writes the directory, file by file, each atomically, model.safetensors last. The folder may exist. Error, and nothing
// written, where a weight is not finite: load_hugging_face would refuse it.
void save_hugging_face(const std::filesystem::path& directory, const BertConfig& config, const BertWeights& weights,
                       Kernels& kernels, const TokenizerSource& tokenizer);

}  // namespace ember
