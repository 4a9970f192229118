// Tensors in a file of torch.save: the zip container (PyTorch 1.6 and later) or the bare pickles before it. The pickle
// is read as data (model/pickle.h): nothing in the file is ever executed.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include "model/safetensors.h"
#include "runtime/file.h"

namespace ember {

// The tensors of a state dict: a dict or OrderedDict from names to tensors or Parameters, bare or under the key
// state_dict or model of another dict. Tensors may share storages and have offsets and strides; they are given
// contiguous. Entries that are no tensors are left out and named. Error, before any tensor is built, for everything
// that is not as torch.save writes it, a big-endian file, the tar form of PyTorch before 0.1.10, and tensors that
// together take more than twice the file and 64 MiB (a few bytes can be expanded into any size).
class TorchFile {
 public:
  explicit TorchFile(const std::filesystem::path& path);
  const std::vector<StoredTensor>& tensors() const { return tensors_; }      // in the dict's order
  const std::vector<std::string>& other_entries() const { return others_; }  // names
  const std::filesystem::path& path() const { return file_.path(); }

 private:
  MappedFile file_;
  std::vector<std::vector<std::byte>> memory_;  // what tensors view and the mapped file has not as they need it
  std::vector<StoredTensor> tensors_;
  std::vector<std::string> others_;
};

}  // namespace ember
