// What a benchmark needs of a device besides its kernels: a clock in the order of the device's work, caches that can be
// emptied, and the counts of launches and memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace ember {

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string name() const = 0;  // "cpu", "cpu-bf16", "cpu-int8" or "cuda"; the last part of a benchmark's name
  virtual Kernels& kernels() = 0;
  virtual std::string device_name() const = 0;  // as Kernels has it
  // Bytes of an element of a frozen weight, where that is not of product_type(); 0 elsewhere.
  virtual double frozen_width() const { return 0; }

  // Marks this moment in the order of the device's work, without waiting for it.
  virtual void mark() = 0;
  // The seconds between each mark and the next since the last call, once all that work is done.
  virtual std::vector<double> laps() = 0;

  // Leaves nothing in the caches that a kernel will read.
  virtual void flush_caches() = 0;
  // Gives the device work that outlasts the host's way of a few launches to it, which must not be measured. False, and
  // nothing done, where work starts at once.
  virtual bool occupy() { return false; }
  // More calls than this must not stand between two marks, or the device could run dry.
  virtual std::int64_t most_calls() const = 0;
  // Copies by the fastest way that the device has; memory of the device, no overlap.
  virtual void copy(void* to, const void* from, std::size_t bytes) = 0;
  // A block for `copy` that fits no cache, and the size of a square product that takes the device long enough.
  virtual std::size_t large_block() const = 0;
  virtual std::int64_t large_product() const = 0;

  // Kernels launched so far; nothing where nothing is launched.
  virtual std::optional<std::int64_t> launches() const { return std::nullopt; }
  // Starts, and ends, the measurement of the most memory in use: of the process on the CPU (kept from before where the
  // system cannot forget it); on CUDA what is taken on the device at the end, by everything since the backend was made.
  // Bytes.
  virtual void reset_peak_memory() = 0;
  virtual std::size_t peak_memory() const = 0;
};

// On thread_count(threads) threads (runtime/shares.h). Error when the processor lacks `precision`.
std::unique_ptr<Backend> make_cpu_backend(Precision precision, int threads);
// Defined only where Ember is built with CUDA. Error when the device, "cuda" or "cuda:N", cannot be used.
std::unique_ptr<Backend> make_cuda_backend(const std::string& device);

// That of the first GPU; null where it cannot be measured, and `absent` then receives a line that says why.
std::unique_ptr<Backend> make_cuda_backend_if_present(std::vector<std::string>& absent);

// What backends are for: training has none in int8.
enum class Job { operations, training };

// The backends that --device asks for: "cpu", "cpu-bf16", "cpu-int8", "cuda", "cuda:N", or "auto" for all that there
// are. `absent` receives a line for each that is not measured. Error for any other name, and for a device asked for by
// name that is not there.
std::vector<std::unique_ptr<Backend>> make_backends(Job job, const std::string& device, int threads,
                                                    std::vector<std::string>& absent);

// Writes those lines to standard error, which no result goes to.
void print_absent(const std::vector<std::string>& absent);

}  // namespace ember
