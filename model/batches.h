// Batches cut from a tokenised data set by the kernels' device, which holds the data set, the order of its rows and the
// place that has been reached; the host knows no more than the rows' lengths.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "data/dataset.h"
#include "kernels/kernels.h"
#include "model/config.h"

namespace ember {

// The largest batch to be ready for.
struct BatchLimits {
  std::int64_t tokens = 0;
  std::int64_t sequences = 0;
};

// Of a batch of `count` rows of the data set from place `first` of `order` on, or without an order from row `first` on;
// without a filling.
BatchShape exact_shape(const Dataset& dataset, std::span<const std::int32_t> order, std::int64_t first,
                       std::int64_t count);

// How many rows of the data set, from row `first` on, stay within the limits together: one at least, where there is
// one.
std::int64_t rows_within(const Dataset& dataset, std::int64_t first, BatchLimits limits);

class Batches {
 public:
  enum class Targets { none, labels };

  // `kernels` and `config` must outlive the object.
  Batches(Kernels& kernels, const BertConfig& config, Targets targets = Targets::labels)
      : kernels_(kernels), config_(config), targets_(targets) {}
  Batches(Kernels& kernels, const BertConfig& config, const Dataset& dataset, Targets targets = Targets::labels)
      : Batches(kernels, config, targets) {
    take(dataset);
  }

  // From now on cuts from `dataset`, from its first row on, in its own order. It must stay as it is meanwhile: where
  // the device's memory is the host's it is read where it lies. Error for a label that the model does not have.
  void take(const Dataset& dataset);
  // From now on takes the rows in `order`, from place `first` of it on. Error for a row that is not there.
  void reorder(std::span<const std::int64_t> order, std::int64_t first = 0);
  // Begins again with the first row of the order.
  void rewind() { go_to(0); }
  // Room for batches of that size; a larger one makes room for itself, which moves the arrays.
  void reserve(BatchLimits limits);

  std::int64_t left() const { return rows() - next_; }
  // Of a batch of the next `count` rows, without a filling. Error where fewer are left or it is too large to be
  // numbered.
  BatchShape exact_shape(std::int64_t count) const;
  // That in which it is gathered.
  BatchShape shape(const BatchShape& exact) const { return kernels_.batch_shape(exact, config_.positions); }

  // The next batch, valid until the one after it. In two parts, for work that is recorded: what the device does, for
  // which there must be room, and what the host keeps account of.
  Batch next(std::int64_t count);
  Batch gather(const BatchShape& shape);
  void advance(std::int64_t count) { next_ += count; }

 private:
  std::int64_t rows() const { return ordered_ ? static_cast<std::int64_t>(order_.size()) : dataset_->size(); }
  void check_labels(const Dataset& dataset) const;
  void go_to(std::int64_t place);
  BatchArrays lay_out(BatchLimits limits, Arena& arena) const;

  Kernels& kernels_;
  const BertConfig& config_;
  Targets targets_;
  const Dataset* dataset_ = nullptr;
  DataRows data_;
  std::vector<std::int32_t> order_;
  bool ordered_ = false;
  std::int64_t next_ = 0;  // the device has its own, in next_memory_
  BatchLimits limits_;
  BatchArrays arrays_;  // for the limits
  Buffer data_memory_, order_memory_, next_memory_, array_memory_;
};

}  // namespace ember
