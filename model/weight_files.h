// The weights of a checkpoint, whatever their form.
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "model/safetensors.h"
#include "model/torch_file.h"

namespace ember {

class WeightFiles {
 public:
  // A .safetensors file, the .safetensors.index.json of several, or else a file of torch.save. Errors as their readers
  // have them.
  explicit WeightFiles(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  std::span<const StoredTensor> tensors() const;
  // What else a file of torch.save has: names.
  std::vector<std::string> other_entries() const;
  // See TorchFile::check_data.
  void check_data() const;

 private:
  std::filesystem::path path_;
  std::optional<TorchFile> torch_;
  std::vector<SafetensorsFile> safetensors_;
  std::vector<StoredTensor> tensors_;  // of all in safetensors_ where they are several
};

}  // namespace ember
