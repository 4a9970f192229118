// Real checkpoints of other authors: each is read as PyTorch or safetensors reads it, or refused for the right reason,
// and a real encoder computes what it computed elsewhere.
#include <zlib.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "model/checkpoint_match.h"
#include "model/weight_files.h"
#include "runtime/error.h"
#include "runtime/file.h"
#include "tests/model/layer_outputs.h"
#include "tests/support.h"

namespace ember {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::all_close;
using testing::shared_dir;
using testing::source_dir;
using testing::WatchedKernels;

std::uint32_t crc_of(const StoredTensor& tensor) {
  std::vector<std::byte> scratch;
  const auto bytes = stored_elements(tensor, 0, tensor.elements(), scratch);
  return static_cast<std::uint32_t>(::crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

std::string checkpoint_complaint(const fs::path& path) {
  return testing::error_of([&] { WeightFiles(path).check_data(); });
}

// tests/golden/torch/checkpoints.py wrote what PyTorch and safetensors read.
TEST(Checkpoints, AreReadAsTheirLibrariesReadThem) {
  const fs::path directory = shared_dir() / "checkpoints";
  EMBER_NEEDS_DATA(directory);
  const json expected = json::parse(read_file(source_dir() / "tests/golden/torch/checkpoints.json"));
  std::size_t files = 0;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(directory)) {
    const std::string ending = entry.path().extension().string();
    if (ending != ".bin" && ending != ".pt" && ending != ".safetensors" && ending != ".tar") continue;
    const std::string name = entry.path().lexically_relative(directory).string();
    SCOPED_TRACE(name);
    ASSERT_TRUE(expected.contains(name));
    ++files;
    if (expected[name].is_null()) continue;
    const WeightFiles file(entry.path());
    file.check_data();
    std::map<std::string, json> found;
    for (const StoredTensor& tensor : file.tensors())
      found[tensor.name] = json::array({tensor.dtype, tensor.shape, crc_of(tensor)});
    EXPECT_EQ(json(found), expected[name]);
  }
  EXPECT_EQ(files, expected.size());
}

TEST(Checkpoints, AreRefusedForTheRightReason) {
  const fs::path directory = shared_dir() / "checkpoints/torch-reader";
  EMBER_NEEDS_DATA(directory);
  EXPECT_NE(checkpoint_complaint(directory / "burn_broken.pt").find("neither a zip file nor a pickle"),
            std::string::npos);
  EXPECT_NE(checkpoint_complaint(directory / "burn_tar_float32.tar").find("the tar form of torch.save before"),
            std::string::npos);
}

TEST(Checkpoints, TheTwoFormsOfOneModelHaveTheSameBytes) {
  const fs::path directory = shared_dir() / "checkpoints";
  EMBER_NEEDS_DATA(directory);
  const WeightFiles torch(directory / "labse_2_Dense_pytorch_model.bin");
  const WeightFiles safetensors(directory / "labse_2_Dense_model.safetensors");
  torch.check_data();
  ASSERT_EQ(torch.tensors().size(), 2u);
  ASSERT_EQ(safetensors.tensors().size(), 2u);
  int pairs = 0;
  for (const StoredTensor& tensor : torch.tensors())
    for (const StoredTensor& twin : safetensors.tensors()) {
      if (twin.name != tensor.name) continue;
      ++pairs;
      EXPECT_EQ(tensor.description(), twin.description());
      EXPECT_TRUE(std::ranges::equal(tensor.bytes, twin.bytes)) << tensor.name;
    }
  EXPECT_EQ(pairs, 2);
}

// A fine-tuned encoder without embeddings, and what it computes from a stored embedding output in float64. The segment
// of its tokens is 1, which is in that output already.
class Sst2 : public ::testing::Test {
 protected:
  void SetUp() override {
    const fs::path directory = shared_dir() / "checkpoints";
    EMBER_NEEDS_DATA(directory);
    golden = json::parse(read_file(directory / "bert_tiny_sst2_golden.json"));
    file.emplace(directory / "bert_tiny_sst2_encoder_only.safetensors");
    config.hidden = 128;
    config.layers = 2;
    config.heads = 2;
    config.ffn = 512;
    config.positions = 16;
    config.vocabulary = 1;
    config.labels = anonymous_labels(2);
    const auto length = static_cast<std::int32_t>(golden["token_ids"].size());
    token_ids.assign(static_cast<std::size_t>(length), 0);  // never looked up
    cu_seqlens = {0, length};
    batch.sequences = 1;
    batch.tokens = batch.max_length = length;
    batch.token_ids = token_ids.data();
    batch.cu_seqlens = cu_seqlens.data();
    kernels.embedding_output = flat(golden["embedding_output"]);
  }

  static std::vector<float> flat(const json& rows) {
    std::vector<float> values;
    for (const json& row : rows)
      if (row.is_array())
        for (const json& value : row) values.push_back(value.get<float>());
      else
        values.push_back(row.get<float>());
    return values;
  }

  BertWeights weights() {
    BertWeights loaded(config, kernels);
    std::size_t found = 0;
    for (const Parameter& parameter : loaded.list) {
      const StoredTensor* tensor = file->find(parameter.name);
      if (tensor == nullptr) continue;
      EXPECT_EQ(tensor->shape, parameter.shape);
      copy_to_f32(*tensor, parameter.value.f32());
      ++found;
    }
    EXPECT_EQ(found, file->tensors().size());
    return loaded;
  }

  static void expect_close(std::span<const float> actual, const json& expected) {
    const std::vector<float> values = flat(expected);
    EXPECT_TRUE(all_close(actual, std::span<const float>(values), 1e-5, 0));
  }

  json golden;
  std::optional<SafetensorsFile> file;
  BertConfig config;
  std::vector<std::int32_t> token_ids, cu_seqlens;
  Batch batch;
  WatchedKernels kernels{1};
};

TEST_F(Sst2, EveryLayerGivesWhatItGaveElsewhere) {
  const auto outputs = testing::layer_outputs(testing::deepened(config, weights(), kernels), kernels, batch);
  ASSERT_EQ(outputs.size(), 2u);
  expect_close(outputs[0], golden["exact_layernorm"]["layer0_out"]);
  expect_close(outputs[1], golden["exact_layernorm"]["layer1_out"]);
}

TEST_F(Sst2, TheModelItselfGivesTheSameCLSRowPooledOutputAndLogits) {
  const BertWeights loaded = weights();
  Bert bert(config, loaded, kernels, Purpose::inference, {batch.tokens, 1});
  const Tensor logits = bert.forward(batch);
  expect_close({logits.f32(), 2}, golden["exact_layernorm"]["logits"]);
  expect_close(kernels.norms.back(), json::array({golden["exact_layernorm"]["layer1_out"][0]}));
  // The classifier is linear: the identity in its place gives the pooled output itself.
  BertConfig wide = config;
  wide.labels = anonymous_labels(config.hidden);
  BertWeights pooled(wide, kernels);
  for (const Parameter& to : pooled.list)
    for (const Parameter& from : loaded.list)
      if (from.name == to.name && !to.name.starts_with("classifier."))
        std::copy_n(from.value.f32(), from.value.size(), to.value.f32());
  for (std::int64_t i = 0; i < config.hidden; ++i) pooled.tensors.classifier_weight.row(i)[i] = 1;
  Bert pooler(wide, pooled, kernels, Purpose::inference, {batch.tokens, 1});
  expect_close({pooler.forward(batch).f32(), static_cast<std::size_t>(config.hidden)},
               golden["exact_layernorm"]["pooled"]);
}

TEST_F(Sst2, ItIsNoWholeModel) {
  const testing::TemporaryDirectory directory;
  config.vocabulary = 2;
  write_file_atomically(directory / "config.json", config_json(config));
  write_file_atomically(directory / "vocab.txt", "[PAD]\n[UNK]\n");
  const CheckpointFiles files{directory / "config.json", directory / "vocab.txt", file->path(), file->tensors()};
  EXPECT_EQ(testing::error_of([&] { match_checkpoint(files, read_surroundings(files, {}), {}); }),
            file->path().string() + ": tensor bert.embeddings.word_embeddings.weight is missing, expected [2, 128]");
}

}  // namespace
}  // namespace ember
