// A checkpoint in parts, its tensors under the names of the model: what loading and converting share.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

#include "model/hugging_face.h"
#include "model/safetensors.h"

namespace ember {

// Weights from any kind of file, the rest from wherever it is.
struct CheckpointFiles {
  std::filesystem::path config, vocabulary;
  std::filesystem::path weights;  // for messages
  std::span<const StoredTensor> tensors;
};

// Error naming `file` unless there are `rows` tokens, or up to 127 fewer: some pad the table of words.
void check_vocabulary(const std::filesystem::path& file, const Vocabulary& vocabulary, std::int64_t rows);

// What stands beside the weights: config.json, vocab.txt and what is beside that (tokenizer_files.h), checked against
// each other and `options`.
struct Surroundings {
  BertConfig config;
  TokenizerSource tokenizer;
};
Surroundings read_surroundings(const CheckpointFiles& files, const LoadOptions& options);

// What each parameter of the model is read from. The tensors' data are not touched.
struct CheckpointMatch {
  BertConfig config;  // with the labels in effect
  TokenizerSource tokenizer;
  std::vector<Parameter> list;               // names and shapes; the values have no memory
  std::vector<const StoredTensor*> sources;  // of `list`, into CheckpointFiles::tensors; null for what is drawn
  LoadReport report;
};
// Errors as load_hugging_face has them.
CheckpointMatch match_checkpoint(const CheckpointFiles& files, const Surroundings& around, const LoadOptions& options);

// Appends the tensors of `weights` as `view`, theirs, has them, under `prefix` and their names.
void append_tensors(std::vector<TensorToStore>& tensors, const BertWeights& weights, const HostView& view,
                    std::string_view prefix = "");

// Draws parameter `index` of the list afresh into `out` (host memory), as load_hugging_face does.
void draw_parameter(const Parameter& parameter, std::size_t index, const BertConfig& config, std::uint64_t seed,
                    float* out, int threads = 1);

}  // namespace ember
