#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "model/hugging_face.h"
#include "model/safetensors.h"
#include "runtime/error.h"
#include "runtime/file.h"
#include "tests/full_disk.h"
#include "tests/model/model_directory.h"
#include "tests/support.h"

namespace ember {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::holds;
using testing::kernels;
using testing::ModelDirectory;
using testing::put;
using testing::Stored;
using testing::TemporaryDirectory;

TEST(SaveHuggingFace, LoadsBackBitForBit) {
  const ModelDirectory from;
  const LoadedModel model = load_hugging_face(from.path(), kernels());
  const TemporaryDirectory parent;
  const fs::path out = parent / "a" / "b";
  for (int twice = 0; twice < 2; ++twice)
    save_hugging_face(out, model.config, model.weights, kernels(), model.tokenizer);
  const LoadedModel again = load_hugging_face(out, kernels());
  EXPECT_EQ(again.config, model.config);
  EXPECT_EQ(again.tokenizer.lower_case, model.tokenizer.lower_case);
  for (const Stored& tensor : from.tensors) EXPECT_TRUE(holds(again, tensor, tensor.name));
  EXPECT_EQ(read_file(out / "vocab.txt"), read_file(from.path() / "vocab.txt"));
  EXPECT_EQ(SafetensorsFile(out / "model.safetensors").metadata().at("format"), "pt");
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(out)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  EXPECT_EQ(names, (std::vector<std::string>{"config.json", "model.safetensors", "special_tokens_map.json",
                                             "tokenizer_config.json", "vocab.txt"}));
}

TEST(SaveHuggingFace, WritesIntoTheDirectoryThatItWasLoadedFrom) {
  const ModelDirectory directory;
  const LoadedModel model = load_hugging_face(directory.path(), kernels());
  save_hugging_face(directory.path(), model.config, model.weights, kernels(), model.tokenizer);
  const LoadedModel again = load_hugging_face(directory.path(), kernels());
  for (const Stored& tensor : directory.tensors) EXPECT_TRUE(holds(again, tensor, tensor.name));
}

TEST(SaveHuggingFace, DescribesTheTokenizer) {
  const ModelDirectory from;
  const LoadedModel model = load_hugging_face(from.path(), kernels());
  const TemporaryDirectory out;
  save_hugging_face(out.path(), model.config, model.weights, kernels(), {model.tokenizer.vocabulary, true});
  const json tokens{{"unk_token", "[UNK]"},
                    {"sep_token", "[SEP]"},
                    {"pad_token", "[PAD]"},
                    {"cls_token", "[CLS]"},
                    {"mask_token", "[MASK]"}};
  EXPECT_EQ(json::parse(read_file(out / "special_tokens_map.json")), tokens);
  json expected = tokens;
  expected.update({{"tokenizer_class", "BertTokenizer"},
                   {"do_lower_case", true},
                   {"strip_accents", nullptr},
                   {"tokenize_chinese_chars", true},
                   {"model_max_length", 7}});
  EXPECT_EQ(json::parse(read_file(out / "tokenizer_config.json")), expected);
  for (const std::int64_t most : {5, 9}) {  // of 7 positions
    save_hugging_face(out.path(), model.config, model.weights, kernels(), {model.tokenizer.vocabulary, true, most});
    expected["model_max_length"] = std::min(most, std::int64_t{7});
    EXPECT_EQ(json::parse(read_file(out / "tokenizer_config.json")), expected);
  }
}

TEST(SaveHuggingFace, AFullDiskLeavesTheOldWeightsWhole) {
  const ModelDirectory directory;
  const LoadedModel model = load_hugging_face(directory.path(), kernels());
  const std::string before = read_file(directory.path() / "model.safetensors");
  const std::string message = testing::error_of([&] {
    const testing::FullDisk disk(4096);  // less than the weights, more than any other file
    save_hugging_face(directory.path(), model.config, model.weights, kernels(), model.tokenizer);
  });
  EXPECT_CONTAINS(message, "cannot be written: File too large");
  EXPECT_EQ(read_file(directory.path() / "model.safetensors"), before);
  EXPECT_NO_THROW(load_hugging_face(directory.path(), kernels()));
  for (const auto& entry : fs::directory_iterator(directory.path()))
    EXPECT_EQ(entry.path().string().find(".partial"), std::string::npos) << entry.path();
}

TEST(SaveHuggingFace, ChecksBeforeItWritesAnything) {
  const ModelDirectory from;
  const LoadedModel model = load_hugging_face(from.path(), kernels());
  const TemporaryDirectory parent;
  const fs::path out = parent / "out";
  const auto save = [&](const BertConfig& config, const std::string& vocabulary, const fs::path& to) {
    save_hugging_face(to, config, model.weights, kernels(), {Vocabulary(vocabulary), true});
  };
  const std::string& vocabulary = model.tokenizer.vocabulary.text();
  EXPECT_THROW(save(model.config, "", out), Error);
  BertConfig config = model.config;
  config.labels = {"\xFF", "b", "c"};
  EXPECT_THROW(save(config, vocabulary, out), Error);
  EXPECT_THROW(save(model.config, "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n", out), Error);
  EXPECT_FALSE(fs::exists(out));
  put(parent / "file", "in the way");
  EXPECT_THROW(save(model.config, vocabulary, parent / "file"), Error);
  *model.weights.tensors.classifier_bias.f32() = NAN;
  EXPECT_EQ(
      testing::error_of([&] { save(model.config, vocabulary, out); }),
      (out / "model.safetensors: classifier.bias").string() + " has numbers that are not finite, which are not saved");
  EXPECT_FALSE(fs::exists(out));
}

}  // namespace
}  // namespace ember
