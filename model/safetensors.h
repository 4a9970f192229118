// Tensors in the safetensors format: u64 little-endian length N, N bytes of JSON header, data without holes.
// https://github.com/huggingface/safetensors (format section of its README).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/stored_tensor.h"
#include "runtime/file.h"

namespace ember {

// A mapped file with its header checked: every rule of the format holds, or the constructor throws Error naming the
// file, the tensor and the rule. Views stay valid as long as the object lives.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);
  const std::vector<StoredTensor>& tensors() const { return tensors_; }  // in the order of their data
  const StoredTensor* find(std::string_view name) const;
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::filesystem::path& path() const { return file_.path(); }

 private:
  MappedFile file_;
  std::vector<StoredTensor> tensors_;
  std::map<std::string, std::string> metadata_;
};

// What a header says of a tensor.
struct TensorDescription {
  std::string name;
  std::string dtype;
  std::vector<std::int64_t> shape;
};

// Writes the length and the header, padded to 8 bytes. The data must follow, in this order and without holes.
void write_safetensors_header(FileWriter& file, std::span<const TensorDescription> tensors,
                              const std::map<std::string, std::string>& metadata);

// What to write: any memory, described. `bytes` must be as large as dtype and shape say.
struct TensorToStore : TensorDescription {
  std::span<const std::byte> bytes;
};

// Writes the tensors, header and data, in the given order.
void write_safetensors(FileWriter& file, std::span<const TensorToStore> tensors,
                       const std::map<std::string, std::string>& metadata);

}  // namespace ember
