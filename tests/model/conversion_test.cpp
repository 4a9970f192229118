#include "model/conversion.h"

#include <algorithm>
#include <string>

#include "tests/model/model_directory.h"
#include "tests/record_writes.h"

namespace ember {
namespace {

using testing::ModelDirectory;

// The files of `directory`, with its tensors as a test may have changed them.
CheckpointMatch match_of(const ModelDirectory& directory, std::span<const StoredTensor> tensors,
                         const LoadOptions& options = {}) {
  const std::filesystem::path& path = directory.path();
  const CheckpointFiles files{path / "config.json", path / "vocab.txt", path / "model.safetensors", tensors};
  return match_checkpoint(files, read_surroundings(files, options), options);
}

TEST(ReadSurroundings, RefusesLabelsThatConfigJsonCannotHold) {
  const ModelDirectory directory;
  const auto complaint = [&](const std::vector<std::string>& names) {
    LoadOptions options;
    options.labels = Labels(names), options.replace_classifier = true;
    return testing::error_of([&] { match_of(directory, {}, options); });
  };
  EXPECT_EQ(complaint({}), "no label to classify into was given");
  EXPECT_EQ(complaint(anonymous_labels(kMaxLabels + 1)), "16385 labels to classify into, at most 16384 were expected");
  EXPECT_CONTAINS(complaint({std::string(1 << 20, 'a')}), "bytes of config.json, at most 1572864 were expected");
}

// PyTorch saves a tensor that was transposed as it lies.
TEST(Conversion, WalksTensorsThatDoNotLieInOrder) {
  ModelDirectory directory;
  testing::Stored& kept = directory.find("bert.encoder.layer.1.intermediate.dense.weight");  // 5 x 6
  const SafetensorsFile file(directory.path() / "model.safetensors");
  std::vector<StoredTensor> tensors(file.tensors().begin(), file.tensors().end());
  const auto turned = std::ranges::find(tensors, kept.name, &StoredTensor::name);
  std::vector<std::byte> columns(kept.bytes.size());
  for (std::size_t row = 0; row < 5; ++row)
    for (std::size_t column = 0; column < 6; ++column)
      std::copy_n(kept.bytes.data() + (row * 6 + column) * 4, 4, columns.data() + (column * 5 + row) * 4);
  turned->bytes = columns, turned->strides = {1, 5};

  const testing::TemporaryDirectory out;
  write_converted(out.path(), match_of(directory, tensors), {});
  EXPECT_TRUE(testing::holds(load_hugging_face(out.path(), testing::kernels()), kept, kept.name));
}

// Which is converted in blocks.
TEST(Conversion, ConvertsALargeTensorWhole) {
  const ModelDirectory directory;
  const SafetensorsFile file(directory.path() / "model.safetensors");
  CheckpointMatch match = match_of(directory, file.tensors());
  std::vector<double> values(150'000);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(i);
  const StoredTensor large{"t", "F64", {150, 1000}, std::as_bytes(std::span(values))};
  match.list = {{"t", {150, 1000}, Start::normal, true, {}}}, match.sources = {&large};
  const testing::TemporaryDirectory out;
  write_converted(out.path(), match, {});
  std::vector<float> converted(values.size());
  copy_to_f32(*SafetensorsFile(out / "model.safetensors").find("t"), converted.data());
  EXPECT_TRUE(std::equal(converted.begin(), converted.end(), values.begin()));
}

TEST(Conversion, DrawsWhatLoadingDraws) {
  ModelDirectory directory;
  directory.remove("classifier.weight");
  directory.remove("classifier.bias");
  directory.write();
  const SafetensorsFile file(directory.path() / "model.safetensors");
  const testing::TemporaryDirectory out;
  LoadOptions options;
  options.draw_classifier = true, options.seed = 7;
  write_converted(out.path(), match_of(directory, file.tensors(), options), {.seed = 7});
  const LoadedModel loaded = load_hugging_face(directory.path(), testing::kernels(), options);
  const LoadedModel converted = load_hugging_face(out.path(), testing::kernels());
  EXPECT_EQ(testing::values(converted, "classifier.weight"), testing::values(loaded, "classifier.weight"));
}

TEST(Conversion, RefusesAVocabularyThatMakesNoTokenizer) {
  const ModelDirectory directory;
  testing::put(directory.path() / "vocab.txt", "[PAD]\n[UNK]\n[SEP]\n[MASK]\nin\nthe\nend\nmore\n");
  const SafetensorsFile file(directory.path() / "model.safetensors");
  const testing::TemporaryDirectory out;
  const std::string complaint =
      testing::error_of([&] { write_converted(out.path(), match_of(directory, file.tensors()), {}); });
  EXPECT_CONTAINS(complaint, "the vocabulary of 8 lines has no [CLS]");
  EXPECT_TRUE(std::filesystem::is_empty(out.path()));
}

TEST(Conversion, FlushesEveryFile) {
  const ModelDirectory directory;
  const SafetensorsFile file(directory.path() / "model.safetensors");
  const CheckpointMatch match = match_of(directory, file.tensors());
  const testing::TemporaryDirectory out;
  testing::take_writes();
  write_converted(out.path(), match, {});
  const std::vector<std::string> writes = testing::take_writes();
  for (const auto& entry : std::filesystem::directory_iterator(out.path())) {
    const std::string name = entry.path().filename().string();
    EXPECT_EQ(std::count(writes.begin(), writes.end(), "flush " + name), 1) << name;
  }
}

}  // namespace
}  // namespace ember
