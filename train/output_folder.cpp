#include "train/output_folder.h"

#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <cerrno>

#include "runtime/error.h"
#include "runtime/file.h"

namespace ember {
namespace {

namespace fs = std::filesystem;

fs::path canonical(const char* flag, const fs::path& path) {
  std::error_code error;
  fs::path result = fs::weakly_canonical(path, error);
  check(!error, "{} {}: {}", flag, path.string(), error.message());
  return result;
}

}  // namespace

void FolderLock::take(const fs::path& folder) {
  if (held()) return;
  descriptor_ = Descriptor(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  check(held(), "{}: {} (--out)", folder.string(), errno_text(errno));
  // A file system without locks is no reason not to train.
  check(::flock(descriptor_.get(), LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK,
        "{}: another train is writing there", folder.string());
}

OutputFolder::OutputFolder(const TrainOptions& options)
    : path_(options.out), overwrite_(options.overwrite), keep_(options.keep) {
  check(!path_.empty(), "--out: a folder is missing");
  std::error_code error;
  const fs::path out = canonical("--out", path_), model = canonical("--model", options.model);
  check(std::mismatch(out.begin(), out.end(), model.begin(), model.end()).first != out.end(),
        "--out {}: is the folder of --model, or around it; name another", path_.string());
  check(out != canonical("--data", options.data), "--out {}: is the folder of --data; name another", path_.string());
  const std::string fresh_start = fmt::format("{} holds no checkpoint: starting from the beginning", path_.string());
  if (!fs::exists(path_, error)) {
    if (options.resume) notes_.push_back(fresh_start);
    return;
  }
  require_directory(path_, "--out");
  lock_.take(path_);
  if (options.overwrite) return;
  if (options.resume) {
    checkpoint_ = newest_checkpoint(path_, notes_);
    if (checkpoint_) return;
    // A run writes metrics.jsonl first, so what is there without it is not ours to replace.
    const std::string there = held();
    check(there.empty() || fs::exists(metrics(), error),
          "{}: holds {} but no metrics.jsonl, so it is no run's to resume; name another --out", path_.string(), there);
    notes_.push_back(fresh_start);
    return;
  }
  require_unoccupied();
}

void OutputFolder::require_unoccupied() const {
  const std::string there = held();
  check(there.empty(), "{}: holds {}; continue a run with --resume, replace it with --overwrite, or name another --out",
        path_.string(), there);
}

// The name of what there is of a model, its tokenizer, its checkpoints or its log; empty where there is none of them.
std::string OutputFolder::held() const {
  std::vector<const char*> names(kModelFiles.begin(), kModelFiles.end());
  names.insert(names.end(), {kShardsFile, kTorchWeightsFile, kFastTokenizerFile, kAddedTokensFile, kAdapterFile,
                             kCheckpoints, kMetricsFile});
  std::error_code error;
  for (const char* name : names)
    if (fs::exists(path_ / name, error)) return name;
  return "";
}

bool OutputFolder::holds_model() const {
  std::error_code error;
  return fs::exists(path_ / kWeightsFile, error);
}

void OutputFolder::prepare() {
  require_writable_directory(path_);
  const bool was_there = lock_.held();
  lock_.take(path_);
  if (!was_there && !overwrite_) require_unoccupied();
}

void OutputFolder::clear() {
  remove_leftovers(path_);
  if (checkpoint_) remove_old_checkpoints(path_, checkpoint_->state.step, keep_);
  if (!overwrite_) return;
  remove_checkpoints(path_);
  for (const char* name : {kWeightsFile, kFastTokenizerFile, kAddedTokensFile, kAdapterFile, kMetricsFile}) {
    std::error_code error;
    fs::remove(path_ / name, error);
    check(!error, "{}: cannot be removed: {}", (path_ / name).string(), error.message());
  }
}

}  // namespace ember
