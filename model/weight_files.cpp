#include "model/weight_files.h"

#include "model/safetensors_index.h"

namespace ember {

WeightFiles::WeightFiles(const std::filesystem::path& path) : path_(path) {
  if (path.string().ends_with(".safetensors.index.json"))
    safetensors_ = open_shards(path);
  else if (path.extension() == ".safetensors")
    safetensors_.emplace_back(path);
  else
    torch_.emplace(path);
  if (safetensors_.size() < 2) return;
  for (const SafetensorsFile& file : safetensors_)
    tensors_.insert(tensors_.end(), file.tensors().begin(), file.tensors().end());
}

std::span<const StoredTensor> WeightFiles::tensors() const {
  if (torch_) return torch_->tensors();
  return safetensors_.size() == 1 ? safetensors_[0].tensors() : tensors_;
}

std::vector<std::string> WeightFiles::other_entries() const {
  return torch_ ? torch_->other_entries() : std::vector<std::string>{};
}

void WeightFiles::check_data() const {
  if (torch_) torch_->check_data();
}

}  // namespace ember
