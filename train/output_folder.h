// The folder that a run writes into: whether it may, and nobody else meanwhile.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "runtime/descriptor.h"
#include "train/checkpoint.h"
#include "train/options.h"

namespace ember {

// A lock on a folder, held until the object or the process ends, however that ends.
class FolderLock {
 public:
  // Error naming the folder when another process holds it.
  void take(const std::filesystem::path& folder);
  bool held() const { return descriptor_.is_open(); }

 private:
  Descriptor descriptor_;
};

class OutputFolder {
 public:
  // Touches nothing. Error when the folder is --data, --model or around that, belongs to a running `train`, holds a run
  // or a model that neither --resume nor --overwrite lets it go on with, or holds only damaged checkpoints.
  explicit OutputFolder(const TrainOptions& options);

  // Where to continue; nothing for a fresh start.
  const std::optional<Checkpoint>& checkpoint() const { return checkpoint_; }
  const std::vector<std::string>& notes() const { return notes_; }
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path metrics() const { return path_ / kMetricsFile; }
  bool holds_model() const;

  // Makes the folder, if it is not there yet. Error naming it when it cannot be written, or when another run has
  // meanwhile made it and written there.
  void prepare();
  // Clears it of what it held before (--overwrite) and of what killed runs left: what is half written, and checkpoints
  // beyond --keep. To be called when nothing but writing can fail any more.
  void clear();

 private:
  void require_unoccupied() const;
  std::string held() const;

  std::filesystem::path path_;
  bool overwrite_;
  std::int64_t keep_;
  std::optional<Checkpoint> checkpoint_;
  std::vector<std::string> notes_;
  FolderLock lock_;
};

}  // namespace ember
