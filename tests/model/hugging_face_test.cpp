#include "model/hugging_face.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "model/safetensors.h"
#include "runtime/error.h"
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
using testing::shared_dir;
using testing::small;
using testing::Stored;
using testing::TemporaryDirectory;
using testing::values;

// What loading says after the directory's name; empty when it works.
std::string complaint(const ModelDirectory& directory, const LoadOptions& options = {}) {
  const std::string message =
      testing::error_about(directory.path().string(), [&] { load_hugging_face(directory.path(), kernels(), options); });
  return message.empty() ? message : message.substr(1);
}

std::string without(std::string text, const std::string& part) {
  const std::size_t at = text.find(part);
  return at == text.npos ? text : text.erase(at, part.size());
}

LoadOptions with_labels(std::vector<std::string> names) {
  LoadOptions options;
  options.labels = Labels(std::move(names));
  return options;
}

TEST(LoadHuggingFace, ReadsEveryTensorBitForBit) {
  const ModelDirectory directory;
  const LoadedModel model = load_hugging_face(directory.path(), kernels());
  EXPECT_EQ(model.config, small());
  EXPECT_FALSE(model.tokenizer.lower_case);
  EXPECT_TRUE(model.report.initialised.empty());
  EXPECT_TRUE(model.report.ignored.empty());
  EXPECT_TRUE(model.report.renamed.empty());
  ASSERT_EQ(model.weights.list.size(), directory.tensors.size());
  for (const Stored& tensor : directory.tensors) EXPECT_TRUE(holds(model, tensor, tensor.name));
}

TEST(LoadHuggingFace, TakesBareAndOldNames) {
  ModelDirectory directory;
  const std::vector<Stored> expected = directory.tensors;
  directory.rename([](std::string name) {
    name = without(name, "bert.");
    for (const auto& [now, old] :
         {std::pair("LayerNorm.weight", "LayerNorm.gamma"), {"LayerNorm.bias", "LayerNorm.beta"}})
      if (name.ends_with(now)) name = without(name, now) + old;
    return name;
  });
  directory.write();
  const LoadedModel model = load_hugging_face(directory.path(), kernels());
  for (const Stored& tensor : expected) EXPECT_TRUE(holds(model, tensor, tensor.name));
  const std::vector<std::string>& renamed = model.report.renamed;
  EXPECT_EQ(renamed.size(), expected.size() - 2);  // the classifier's names are the same
  EXPECT_EQ(std::count(renamed.begin(), renamed.end(),
                       "encoder.layer.1.output.LayerNorm.gamma -> bert.encoder.layer.1.output.LayerNorm.weight"),
            1);
}

// As they are in the state dict of a model that was wrapped for several GPUs, compiled or made part of another.
TEST(LoadHuggingFace, TakesNamesOfAWrappedModel) {
  ModelDirectory directory;
  const std::vector<Stored> expected = directory.tensors;
  directory.rename([](const std::string& name) {
    return name.starts_with("classifier.") ? "model." + name : "module._orig_mod." + name;
  });
  directory.write();
  const LoadedModel model = load_hugging_face(directory.path(), kernels());
  for (const Stored& tensor : expected) EXPECT_TRUE(holds(model, tensor, tensor.name));
  EXPECT_EQ(model.report.renamed.size(), expected.size());
  EXPECT_EQ(model.report.renamed.back(), "model.classifier.bias -> classifier.bias");
}

TEST(LoadHuggingFace, RefusesTwoNamesForOneTensor) {
  ModelDirectory directory;
  Stored twin = directory.find("bert.pooler.dense.bias");
  twin.name = "pooler.dense.bias";
  directory.tensors.push_back(twin);
  directory.write();
  EXPECT_EQ(complaint(directory),
            "model.safetensors: tensors bert.pooler.dense.bias and pooler.dense.bias are both "
            "bert.pooler.dense.bias");
  directory.tensors.back().name = "bert.embeddings.LayerNorm.beta";
  directory.write();
  EXPECT_CONTAINS(complaint(directory), "are both bert.embeddings.LayerNorm.bias");
}

TEST(LoadHuggingFace, IgnoresAndListsWhatItHasNoUseFor) {
  ModelDirectory directory;
  const std::vector<std::byte> bytes(16);
  directory.tensors.push_back({"bert.embeddings.position_ids", "I64", {1, 2}, bytes});
  directory.tensors.push_back({"cls.predictions.bias", "F32", {4}, bytes});
  directory.tensors.push_back({"fit_denses.0.weight", "F32", {2, 2}, bytes});
  directory.tensors.push_back({"evil\nname", "F32", {4}, bytes});
  directory.write();
  const LoadedModel model = load_hugging_face(directory.path(), kernels());
  std::vector<std::string> ignored = model.report.ignored;
  std::sort(ignored.begin(), ignored.end());
  EXPECT_EQ(ignored, (std::vector<std::string>{"bert.embeddings.position_ids", "cls.predictions.bias", "evil\\x0aname",
                                               "fit_denses.0.weight"}));
}

TEST(LoadHuggingFace, RefusesLayersThatTheConfigDoesNotHave) {
  const ModelDirectory directory;
  directory.configure("num_hidden_layers", 1);
  EXPECT_EQ(complaint(directory),
            "model.safetensors: tensor bert.encoder.layer.1.attention.output.LayerNorm.bias has no "
            "place in the 1 layers of config.json");
  directory.configure("num_hidden_layers", 3);
  EXPECT_EQ(complaint(directory),
            "model.safetensors: tensor bert.encoder.layer.2.attention.self.query.weight is missing, expected [6, 6]");
}

TEST(LoadHuggingFace, NamesEveryMissingTensor) {
  const ModelDirectory whole;
  for (const Stored& tensor : whole.tensors) {
    ModelDirectory directory;
    directory.remove(tensor.name);
    directory.write();
    EXPECT_TRUE(complaint(directory).starts_with("model.safetensors: tensor " + tensor.name + " is missing"))
        << tensor.name;
  }
}

TEST(LoadHuggingFace, NamesEveryTensorOfTheWrongShape) {
  const ModelDirectory whole;
  for (const Stored& tensor : whole.tensors) {
    ModelDirectory directory;
    Stored& changed = directory.find(tensor.name);
    changed.shape.push_back(1);  // the same bytes in one dimension more
    directory.write();
    const std::string expected =
        fmt::format("model.safetensors: tensor {} is F32 [{}], expected [{}] by config.json", tensor.name,
                    fmt::join(changed.shape, ", "), fmt::join(tensor.shape, ", "));
    EXPECT_EQ(complaint(directory), expected);
  }
  const ModelDirectory directory;
  directory.configure("intermediate_size", 4);
  EXPECT_EQ(complaint(directory),
            "model.safetensors: tensor bert.encoder.layer.0.intermediate.dense.weight is F32 [5, 6], "
            "expected [4, 6] by config.json");
}

TEST(LoadHuggingFace, RefusesATransposedMatrix) {
  ModelDirectory directory;
  std::swap(directory.find("bert.encoder.layer.0.output.dense.weight").shape[0],
            directory.find("bert.encoder.layer.0.output.dense.weight").shape[1]);
  directory.write();
  EXPECT_CONTAINS(complaint(directory), "is F32 [5, 6], expected [6, 5]");
}

TEST(LoadHuggingFace, ConvertsOtherFloatsAndRefusesIntegers) {
  ModelDirectory directory;
  Stored& bias = directory.find("classifier.bias");
  bias = {bias.name, "BF16", {3}, {}};
  for (const int upper : {0x80, 0x3F, 0x00, 0xC0, 0x00, 0x00}) bias.bytes.push_back(static_cast<std::byte>(upper));
  directory.write();
  EXPECT_EQ(values(load_hugging_face(directory.path(), kernels()), "classifier.bias"), (std::vector<float>{1, -2, 0}));
  bias.dtype = "I16";
  directory.write();
  EXPECT_EQ(complaint(directory),
            "model.safetensors: tensor classifier.bias is I16 [3], expected F64, F32, F16 or BF16");
}

TEST(LoadHuggingFace, NamesBothSidesWhenVocabulariesDisagree) {
  const ModelDirectory directory;
  put(directory.path() / "vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nin\nthe\nend\n");
  EXPECT_EQ(complaint(directory), "");  // a row that no token has, as where a vocabulary is padded
  directory.configure("vocab_size", 136);
  EXPECT_EQ(complaint(directory), "vocab.txt: has 8 lines, but vocab_size in config.json is 136");
  directory.configure("vocab_size", 8);
  EXPECT_EQ(complaint(directory),
            "model.safetensors: tensor bert.embeddings.word_embeddings.weight has 9 rows, but "
            "vocab_size in config.json is 8");
  directory.configure("vocab_size", 7);
  EXPECT_EQ(complaint(directory), "vocab.txt: has 8 lines, but vocab_size in config.json is 7");
  put(directory.path() / "vocab.txt", "");
  EXPECT_EQ(complaint(directory), "vocab.txt: is empty, a token a line was expected");
  put(directory.path() / "vocab.txt", "1\n2\n3\n4\n5\n6\n7\n8");  // the last line is not closed
  EXPECT_EQ(complaint(directory), "vocab.txt: has 8 lines, but vocab_size in config.json is 7");
}

TEST(LoadHuggingFace, RefusesAClassifierForAnotherProblem) {
  const ModelDirectory directory;
  const std::string reason =
      "model.safetensors: problem_type in config.json is not multi_label_classification, the only problem that Ember "
      "computes; where the classifier is for several labels at once, write that there";
  directory.configure("problem_type", nullptr);  // one of several, as transformers has it
  EXPECT_EQ(complaint(directory), reason);
  directory.configure("problem_type", "single_label_classification");
  EXPECT_EQ(complaint(directory), reason);
  // All that transformers writes of a classifier into its default two labels.
  json object = json::parse(read_file(directory.path() / "config.json"));
  for (const char* key : {"problem_type", "id2label", "label2id"}) object.erase(key);
  put(directory.path() / "config.json", object.dump());
  EXPECT_EQ(complaint(directory), reason);
  LoadOptions options;
  options.labels = Labels(small().labels);
  EXPECT_EQ(complaint(directory, options), reason + "; --new-classifier draws a new one");
  options.replace_classifier = true;
  EXPECT_EQ(complaint(directory, options), "");
  EXPECT_TRUE(load_hugging_face(directory.path(), kernels(), options).config.multi_label);
}

TEST(LoadHuggingFace, NamesAWeightThatIsNotFinite) {
  ModelDirectory directory;
  Stored& bias = directory.find("classifier.bias");
  const float damaged[] = {1, -INFINITY, 0};
  std::memcpy(bias.bytes.data(), damaged, sizeof damaged);
  directory.write();
  EXPECT_EQ(complaint(directory), "model.safetensors: tensor classifier.bias has numbers that are not finite");
}

TEST(LoadHuggingFace, DrawsAMissingPooler) {
  ModelDirectory directory;
  directory.remove("bert.pooler.dense.weight");
  directory.remove("bert.pooler.dense.bias");
  directory.write();
  LoadOptions options;
  options.labels = Labels(small().labels);
  // A classifier of tokens, say.
  EXPECT_EQ(complaint(directory, options),
            "model.safetensors: has a classifier but no pooler, whose output Ember's classifier reads; "
            "--new-classifier draws a new one");
  options.replace_classifier = true;
  EXPECT_EQ(complaint(directory, options), "");
  options.replace_classifier = false;
  directory.remove("classifier.weight");
  directory.remove("classifier.bias");
  directory.write();
  const LoadedModel model = load_hugging_face(directory.path(), kernels(), options);
  EXPECT_EQ(model.report.initialised, (std::vector<std::string>{"bert.pooler.dense.weight", "bert.pooler.dense.bias",
                                                                "classifier.weight", "classifier.bias"}));
  EXPECT_EQ(values(model, "bert.pooler.dense.bias"), std::vector<float>(6, 0.0f));
  const std::vector<float> weight = values(model, "bert.pooler.dense.weight");
  EXPECT_TRUE(std::all_of(weight.begin(), weight.end(), [](float w) { return w != 0 && std::fabs(w) < 0.2f; }));
  LoadOptions other = options;
  other.seed = 43;
  EXPECT_EQ(values(load_hugging_face(directory.path(), kernels(), options), "bert.pooler.dense.weight"), weight);
  EXPECT_NE(values(load_hugging_face(directory.path(), kernels(), other), "bert.pooler.dense.weight"), weight);
}

TEST(LoadHuggingFace, AsksForAClassifierUnlessLabelsAreGiven) {
  ModelDirectory directory;
  directory.remove("classifier.weight");
  directory.remove("classifier.bias");
  directory.write();
  EXPECT_EQ(complaint(directory),
            "model.safetensors: tensor classifier.weight is missing: the model is not fine-tuned");
  const LoadedModel model = load_hugging_face(directory.path(), kernels(), with_labels({"a", "b", "c", "d"}));
  EXPECT_EQ(model.config.labels, (std::vector<std::string>{"a", "b", "c", "d"}));
  EXPECT_EQ(model.report.initialised, (std::vector<std::string>{"classifier.weight", "classifier.bias"}));
  EXPECT_EQ(values(model, "classifier.weight").size(), 24u);
}

TEST(LoadHuggingFace, KeepsTheClassifierOfTheSameLabelsUnlessItIsToBeReplaced) {
  const ModelDirectory directory;
  const auto initialised = [&](const std::vector<std::string>& names, bool replace) {
    LoadOptions options = with_labels(names);
    options.replace_classifier = replace;
    const LoadedModel model = load_hugging_face(directory.path(), kernels(), options);
    EXPECT_EQ(model.config.labels, names);
    EXPECT_EQ(model.report.ignored, model.report.initialised);
    return model.report.initialised;
  };
  const std::vector<std::string> drawn{"classifier.weight", "classifier.bias"}, none;
  EXPECT_EQ(initialised({"joy", "grief", "neutral"}, false), none);
  EXPECT_EQ(initialised({"joy", "grief", "neutral"}, true), drawn);
  EXPECT_EQ(initialised({"grief", "joy", "neutral"}, true), drawn);
  EXPECT_EQ(initialised({"joy", "grief", "neutral", "fear"}, true), drawn);
  directory.configure("id2label", {{"0", "LABEL_0"}, {"1", "LABEL_1"}, {"2", "LABEL_2"}});
  EXPECT_EQ(initialised({"grief", "joy", "neutral"}, false), none);
  EXPECT_EQ(initialised({"joy", "grief"}, true), drawn);
}

TEST(LoadHuggingFace, ALabelCountThatDiffersFromTheClassifiersIsAnError) {
  const ModelDirectory directory;
  directory.configure("id2label", {{"0", "joy"}, {"1", "grief"}});
  EXPECT_EQ(complaint(directory),
            "model.safetensors: tensor classifier.weight has 3 rows, but config.json has 2 labels");
}

TEST(LoadHuggingFace, NamesLabelsByNumberWhenTheConfigHasNone) {
  ModelDirectory directory;
  json object = json::parse(read_file(directory.path() / "config.json"));
  object.erase("id2label");
  put(directory.path() / "config.json", object.dump());
  EXPECT_EQ(load_hugging_face(directory.path(), kernels()).config.labels, anonymous_labels(3));
  const LoadedModel named = load_hugging_face(directory.path(), kernels(), with_labels({"a", "b", "c"}));
  EXPECT_TRUE(named.report.initialised.empty());
  EXPECT_EQ(complaint(directory, with_labels({"a", "b"})),
            "model.safetensors: the classifier has 3 labels, expected 2; --new-classifier draws a new one");
  Stored& weight = directory.find("classifier.weight");
  weight = {weight.name, "F32", {0, 6}, {}};
  directory.write();
  EXPECT_EQ(complaint(directory), "model.safetensors: the classifier has 0 labels, expected 1 to 16384");
  weight = {weight.name, "F32", {}, std::vector<std::byte>(4)};
  directory.write();
  EXPECT_EQ(complaint(directory),
            "model.safetensors: tensor classifier.weight is F32 [], expected [3, 6] by config.json");
  weight = {weight.name, "F32", {std::int64_t{1} << 60, 0}, {}};
  directory.write();
  EXPECT_EQ(complaint(directory),
            "model.safetensors: the classifier has 1152921504606846976 labels, expected 1 to 16384");
}

TEST(LoadHuggingFace, RefusesTheClassifierOfOtherLabels) {
  const ModelDirectory directory;
  const auto refused = [&](std::vector<std::string> names) { return complaint(directory, with_labels(names)); };
  EXPECT_EQ(refused({"joy", "grief"}),
            "model.safetensors: the classifier has 3 labels, expected 2; --new-classifier draws a new one");
  EXPECT_EQ(refused({"joy", "fear", "neutral"}),
            "model.safetensors: label 1 of the classifier is grief, expected fear; --new-classifier draws a new one");
}

TEST(LoadHuggingFace, DrawsEverythingFromScratch) {
  const ModelDirectory directory;
  fs::remove(directory.path() / "model.safetensors");
  directory.configure("pad_token_id", 2);
  directory.configure("problem_type", "single_label_classification");
  LoadOptions options;
  options.from_scratch = true;
  const LoadedModel model = load_hugging_face(directory.path(), kernels(), options);
  EXPECT_EQ(model.report.initialised.size(), directory.tensors.size());
  EXPECT_EQ(model.config.labels, small().labels);
  EXPECT_TRUE(model.config.multi_label);
  const std::vector<float> words = values(model, "bert.embeddings.word_embeddings.weight");
  for (std::size_t i = 0; i < words.size(); ++i) EXPECT_EQ(words[i] == 0, i / 6 == 2) << i;  // the padding row is zero
  EXPECT_EQ(values(model, "bert.embeddings.LayerNorm.weight"), std::vector<float>(6, 1.0f));
  EXPECT_NE(values(model, "bert.encoder.layer.0.attention.self.query.weight"),
            values(model, "bert.encoder.layer.0.attention.self.key.weight"));
  options.labels = Labels({"x", "y"});
  EXPECT_EQ(load_hugging_face(directory.path(), kernels(), options).config.label_count(), 2);
  options.labels.reset();
  directory.configure("id2label", json::object());
  EXPECT_EQ(complaint(directory, options), "config.json: id2label is missing, and no labels were given");
}

// transformers would add it to the weights.
TEST(LoadHuggingFace, AnAdapterIsRefusedBesideTheWeightsAndAlone) {
  const ModelDirectory directory;
  put(directory.path() / "adapter_config.json", "{}");
  EXPECT_TRUE(complaint(directory).starts_with(" holds adapter_config.json, of an adapter, ")) << complaint(directory);
  EXPECT_EQ(complaint(directory, {.labels = Labels(small().labels), .from_scratch = true}), "");
  for (const char* name : {"config.json", "model.safetensors"}) fs::remove(directory.path() / name);
  EXPECT_TRUE(complaint(directory).starts_with(" holds adapter_config.json, of an adapter, ")) << complaint(directory);
}

TEST(LoadHuggingFace, SaysWhatToDoWithoutSafetensors) {
  const ModelDirectory directory;
  fs::remove(directory.path() / "model.safetensors");
  EXPECT_EQ(complaint(directory), " holds no model.safetensors, nor model.safetensors.index.json");
  put(directory.path() / "pytorch_model.bin", "x");
  EXPECT_EQ(complaint(directory), " has pytorch_model.bin but no model.safetensors: convert_hf makes one of it");
  put(directory.path() / "model.safetensors.index.json", "{}");
  EXPECT_EQ(complaint(directory), "model.safetensors.index.json: weight_map is missing");
}

TEST(LoadHuggingFace, NamesWhateverFileIsMissingOrBroken) {
  for (const char* name : {"config.json", "vocab.txt", "model.safetensors"}) {
    const ModelDirectory directory;
    fs::remove(directory.path() / name);
    EXPECT_NE(complaint(directory).find(name), std::string::npos) << name;
    fs::create_directory(directory.path() / name);
    EXPECT_NE(complaint(directory).find("is a directory"), std::string::npos) << name;
  }
  const ModelDirectory modern;
  fs::rename(modern.path() / "vocab.txt", modern.path() / "tokenizer.json");
  EXPECT_TRUE(complaint(modern).starts_with("tokenizer.json: not JSON: ")) << complaint(modern);
  const ModelDirectory directory;
  fs::resize_file(directory.path() / "model.safetensors", fs::file_size(directory.path() / "model.safetensors") - 1);
  EXPECT_TRUE(complaint(directory).starts_with("model.safetensors: ")) << complaint(directory);
  EXPECT_EQ(testing::error_of([] { load_hugging_face("/nonexistent", kernels()); }),
            "/nonexistent: no such folder (of a model)");
}

TEST(LoadHuggingFace, ReadsTheTokenizersCaseAndItsTokens) {
  const ModelDirectory directory;
  EXPECT_FALSE(load_hugging_face(directory.path(), kernels()).tokenizer.lower_case);
  put(directory.path() / "tokenizer_config.json", "{}");
  EXPECT_TRUE(load_hugging_face(directory.path(), kernels()).tokenizer.lower_case);
  put(directory.path() / "added_tokens.json", R"({"[NAME]": 9})");
  EXPECT_EQ(complaint(directory), "added_tokens.json: has [NAME], which Ember does not know");
}

// A whole small BERT of another author: names without `bert.`, no pooler, no classifier.
TEST(HuggingFaceData, LoadsARealCheckpoint) {
  const fs::path checkpoints = shared_dir() / "checkpoints";
  EMBER_NEEDS_DATA(checkpoints);
  const TemporaryDirectory directory;
  for (const auto& [from, to] : {std::pair("coldfire_tiny_bert.safetensors", "model.safetensors"),
                                 {"coldfire_tiny_bert_config.json", "config.json"},
                                 {"coldfire_tiny_bert_vocab.txt", "vocab.txt"},
                                 {"coldfire_tiny_bert_tokenizer_config.json", "tokenizer_config.json"}})
    fs::copy_file(checkpoints / from, directory / to);
  EXPECT_THROW(load_hugging_face(directory.path(), kernels()), Error);
  const LoadedModel model = load_hugging_face(directory.path(), kernels(), with_labels({"joy", "grief", "neutral"}));
  EXPECT_EQ(model.config.hidden, 32);
  EXPECT_EQ(model.config.label_count(), 3);
  EXPECT_FALSE(model.tokenizer.lower_case);
  EXPECT_EQ(model.report.initialised, (std::vector<std::string>{"bert.pooler.dense.weight", "bert.pooler.dense.bias",
                                                                "classifier.weight", "classifier.bias"}));
  EXPECT_EQ(model.report.renamed.size(), 37u);
  EXPECT_TRUE(model.report.ignored.empty());
  const SafetensorsFile file(directory / "model.safetensors");
  for (const StoredTensor& tensor : file.tensors()) {
    const std::vector<float> found = values(model, "bert." + tensor.name);
    ASSERT_EQ(found.size() * sizeof(float), tensor.bytes.size()) << tensor.name;
    EXPECT_EQ(std::memcmp(found.data(), tensor.bytes.data(), tensor.bytes.size()), 0) << tensor.name;
  }
}

}  // namespace
}  // namespace ember
