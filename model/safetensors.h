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

#include "runtime/file.h"

namespace ember {

struct StoredTensor {
  std::string name;
  std::string dtype;  // F64 F32 F16 BF16 I64 I32 I16 I8 U64 U32 U16 U8 BOOL F8_E4M3 F8_E5M2 C64
  std::vector<std::int64_t> shape;
  std::span<const std::byte> bytes;  // into the mapped file

  std::int64_t elements() const;
  // "F32 [312, 1200]", for messages.
  std::string description() const;
};

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

// Whether copy_to_f32 takes it: F64, F32, F16, BF16.
bool is_floating(const StoredTensor& tensor);

// Converts a stored floating tensor (F64, F32, F16, BF16) to floats with one rounding; `out` must have its size.
// Error naming the tensor for any other dtype.
void copy_to_f32(const StoredTensor& tensor, float* out);

// What to write: any memory, described. `bytes` must be as large as dtype and shape say.
struct TensorToStore {
  std::string name;
  std::string dtype;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> bytes;
};

// Writes the tensors in the given order; the header is padded to 8 bytes.
void write_safetensors(FileWriter& file, std::span<const TensorToStore> tensors,
                       const std::map<std::string, std::string>& metadata);

}  // namespace ember
