// Saves models and checkpoints. A CPU's weights are written at once. Of a GPU's a copy is taken, which is written while
// training goes on, where there is a thread for it: to write and flush the 230 MB of a model and a checkpoint takes as
// long as hundreds of steps. The jobs run one after another in the order of the calls, and none after one that failed,
// so that the files are always those of a run that saves at once and was killed.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "model/weights.h"

namespace ember {

class Saver {
 public:
  Saver(const BertConfig& config, Kernels& kernels);
  ~Saver();  // waits
  Saver(const Saver&) = delete;
  Saver& operator=(const Saver&) = delete;

  // `write` is given the sets, or their copies, and the kernels whose memory they lie in; what else it uses must stay
  // as it is. Waits for the last job on as many sets. Throws what any job before has thrown.
  using Sets = std::span<const BertWeights* const>;
  void save(Sets sets, const std::function<void(Sets, Kernels&)>& write);
  // Throws what has gone wrong in a job; does not wait.
  void check() const;
  // Waits until all is written.
  void finish() const;

 private:
  // Of the jobs on so many sets.
  struct Lane {
    std::vector<std::unique_ptr<BertWeights>> copies;
    std::shared_future<void> writing;
  };

  void in_turn(std::int64_t number, const std::function<void()>& write);

  const BertConfig& config_;
  Kernels& kernels_;
  std::unique_ptr<Kernels> host_;  // whose memory the copies lie in; null where no copy is needed
  std::vector<Lane> lanes_;        // by the number of sets

  std::int64_t given_ = 0;  // jobs
  std::mutex mutex_;        // of what follows
  std::condition_variable turn_;
  std::int64_t done_ = 0;       // jobs, or passed over
  std::exception_ptr failure_;  // of the first that failed
};

}  // namespace ember
