// Tensors in a file of torch.save: the zip container (PyTorch 1.6 and later) or the bare pickles before it. The pickle
// is read as data (model/pickle.h): nothing in the file is ever executed.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "model/stored_tensor.h"
#include "runtime/file.h"

namespace ember {

// The tensors of a state dict: a dict or OrderedDict from names to tensors or Parameters (whose attributes count for
// nothing), bare or under the key state_dict, model_state_dict or model of another dict. Tensors may share storages and
// have offsets and strides: they are views of the mapped file, and nothing is copied. Entries that are no tensors are
// left out and named. Error for everything that is not as torch.save writes it, a big-endian file, the tar form of
// PyTorch before 0.1.10, and tensors that together have more than twice the file's bytes and 64 MiB (a few bytes can be
// expanded into any size).
class TorchFile {
 public:
  explicit TorchFile(const std::filesystem::path& path);
  const std::vector<StoredTensor>& tensors() const { return tensors_; }      // in the dict's order
  const std::vector<std::string>& other_entries() const { return others_; }  // names
  const std::filesystem::path& path() const { return file_.path(); }

  // Compares the CRCs of the tensors' data, which the constructor leaves alone, since to read all of it takes as long
  // as to copy it. To be called before the data are relied upon; it may run in one thread while they are read in
  // another.
  void check_data() const;

 private:
  MappedFile file_;
  std::vector<std::string> unchecked_;  // zip entries
  std::vector<StoredTensor> tensors_;
  std::vector<std::string> others_;
};

}  // namespace ember
