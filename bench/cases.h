// One measurement of bench_kernels after another: operation x problem x state of the caches x backend.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bench/backend.h"
#include "bench/operations.h"
#include "bench/peaks.h"
#include "bench/time_call.h"

namespace ember {

// "gelu_forward/tinybert/308/warm/cpu", or of a peak "peak_copy/cpu".
struct Case {
  std::string operation, model;  // model: empty for a peak
  std::int64_t tokens = 0;
  Cache cache = Cache::warm;
  Backend* backend = nullptr;
  Work work;                    // known once it has been measured
  std::vector<double> seconds;  // of a call, one for each repetition

  std::string name() const;
  bool is_peak() const { return model.empty(); }
};

// All measurements of some backends. At most one of them has its operands in memory at a time.
class Suite {
 public:
  // `large`: with MiniLM's and BERT-base's largest batches too.
  Suite(std::vector<std::unique_ptr<Backend>> backends, Budget budget, bool large);
  Suite(const Suite&) = delete;
  Suite& operator=(const Suite&) = delete;
  ~Suite();

  std::size_t size() const;
  const Case& at(std::size_t i) const;
  const std::vector<std::unique_ptr<Backend>>& backends() const { return backends_; }
  // One repetition of case i, whose seconds it returns and remembers.
  double run(std::size_t i);
  // As measured in this run.
  Peaks peaks(const Backend& backend) const;

 private:
  struct Entry;
  struct Ready;
  void add_backend(Backend& backend, const std::vector<Operation>& operations, bool large);

  std::vector<std::unique_ptr<Backend>> backends_;
  Budget budget_;
  std::vector<Entry> entries_;
  std::unique_ptr<Ready> ready_;  // the operands at hand
};

}  // namespace ember
