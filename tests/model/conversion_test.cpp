#include "model/conversion.h"

#include <algorithm>
#include <string>
#include <utility>

#include "tests/model/model_directory.h"
#include "tests/record_writes.h"

namespace ember {
namespace {

using testing::ModelDirectory;

// The files of `directory`, with its tensors as a test may have changed them.
CheckpointMatch match_of(const ModelDirectory& directory, std::span<const StoredTensor> tensors) {
  const std::filesystem::path& path = directory.path();
  const CheckpointFiles files{path / "config.json", path / "vocab.txt", path / "model.safetensors", tensors};
  return match_checkpoint(files, read_surroundings(files, {}), {});
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
