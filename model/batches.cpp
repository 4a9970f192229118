#include "model/batches.h"

#include <algorithm>
#include <limits>

#include "kernels/require.h"

namespace ember {
namespace {

// The device's copy of a vector, taken from the arena; null while that only measures.
template <typename T>
const T* copy(Kernels& kernels, Arena& arena, const std::vector<T>& values) {
  const std::size_t bytes = values.size() * sizeof(T);
  void* to = arena.take(bytes);
  if (to != nullptr) kernels.upload(to, values.data(), bytes);
  return static_cast<const T*>(to);
}

DataRows copy(Kernels& kernels, Arena& arena, const Dataset& dataset) {
  return {copy(kernels, arena, dataset.token_ids), copy(kernels, arena, dataset.offsets),
          copy(kernels, arena, dataset.label_ids), copy(kernels, arena, dataset.label_offsets)};
}

std::int32_t* integers(Arena& arena, std::int64_t count) {
  return static_cast<std::int32_t*>(arena.take(static_cast<std::size_t>(count) * sizeof(std::int32_t)));
}

}  // namespace

BatchShape exact_shape(const Dataset& dataset, std::span<const std::int32_t> order, std::int64_t first,
                       std::int64_t count) {
  BatchShape shape{count, count, 0, 0};
  for (std::int64_t place = first; place < first + count; ++place) {
    const std::int64_t length = dataset.length(order.empty() ? place : order[static_cast<std::size_t>(place)]);
    shape.tokens += length;
    shape.max_length = std::max(shape.max_length, length);
  }
  return shape;
}

std::int64_t rows_within(const Dataset& dataset, std::int64_t first, BatchLimits limits) {
  std::int64_t end = first, tokens = 0;
  while (end < dataset.size() &&
         (end == first || (tokens + dataset.length(end) <= limits.tokens && end - first < limits.sequences)))
    tokens += dataset.length(end++);
  return end - first;
}

void Batches::take(const Dataset& dataset) {
  check_labels(dataset);
  if (next_memory_.size() == 0) next_memory_ = kernels_.allocate(sizeof next_);
  if (kernels_.on_host()) {
    data_ = {dataset.token_ids.data(), dataset.offsets.data(), dataset.label_ids.data(), dataset.label_offsets.data()};
  } else {
    Arena measure;
    copy(kernels_, measure, dataset);
    data_memory_ = kernels_.allocate(measure.used());
    Arena arena(data_memory_.data(), data_memory_.size());
    data_ = copy(kernels_, arena, dataset);
  }
  dataset_ = &dataset;  // nothing fails any more
  ordered_ = false;
  go_to(0);
}

void Batches::go_to(std::int64_t place) {
  next_ = place;
  kernels_.upload(next_memory_.data(), &next_, sizeof next_);
}

void Batches::check_labels(const Dataset& dataset) const {
  if (targets_ == Targets::none) return;
  for (std::int64_t row = 0; row < dataset.size(); ++row)
    for (const std::int32_t label : dataset.labels(row))
      check(label >= 0 && label < config_.label_count(), "label {} of row {} is out of range, expected 0 to {}", label,
            row, config_.label_count() - 1);
}

void Batches::reorder(std::span<const std::int64_t> order, std::int64_t first) {
  for (const std::int64_t row : order)
    check(row >= 0 && row < dataset_->size(), "row {} is not in a data set of {}", row, dataset_->size());
  const std::size_t bytes = order.size() * sizeof(std::int32_t);
  order_.reserve(order.size());
  if (order_memory_.size() < bytes) order_memory_ = kernels_.allocate(bytes);
  order_.assign(order.begin(), order.end());  // nothing fails any more
  ordered_ = true;
  kernels_.upload(order_memory_.data(), order_.data(), bytes);
  go_to(first);
}

BatchArrays Batches::lay_out(BatchLimits limits, Arena& arena) const {
  const auto [tokens, sequences] = limits;
  BatchArrays arrays{integers(arena, tokens),     integers(arena, sequences + 1), integers(arena, tokens),
                     integers(arena, tokens + 1), integers(arena, tokens),        {}};
  if (targets_ == Targets::labels) arrays.targets = arena.matrix(sequences, config_.label_count());
  return arrays;
}

void Batches::reserve(BatchLimits limits) {
  if (array_memory_.size() > 0 && limits.tokens <= limits_.tokens && limits.sequences <= limits_.sequences) return;
  limits = {std::max(limits.tokens, limits_.tokens), std::max(limits.sequences, limits_.sequences)};
  Arena measure;
  lay_out(limits, measure);
  array_memory_ = kernels_.allocate(measure.used());  // or it throws, and the old limits are true
  limits_ = limits;
  Arena arena(array_memory_.data(), array_memory_.size());
  arrays_ = lay_out(limits, arena);
}

BatchShape Batches::exact_shape(std::int64_t count) const {
  check(count <= left(), "a batch of {} rows, but {} are left", count, left());
  const BatchShape shape =
      ember::exact_shape(*dataset_, ordered_ ? std::span(order_) : std::span<const std::int32_t>(), next_, count);
  check(shape.tokens < std::numeric_limits<std::int32_t>::max() - config_.positions,
        "a batch of {} tokens and more is too large", shape.tokens);
  return shape;
}

Batch Batches::next(std::int64_t count) {
  const BatchShape shape = this->shape(exact_shape(count));
  reserve({shape.tokens, shape.sequences});
  const Batch batch = gather(shape);
  advance(count);
  return batch;
}

Batch Batches::gather(const BatchShape& shape) {
  require(shape.tokens <= limits_.tokens && shape.sequences <= limits_.sequences, "gather: there is no room");
  BatchArrays arrays = arrays_;
  if (targets_ == Targets::labels) arrays.targets = arrays_.targets.row_block(0, shape.rows);
  const auto* order = ordered_ ? static_cast<const std::int32_t*>(order_memory_.data()) : nullptr;
  return kernels_.gather_batch(arrays, {data_, order, static_cast<std::int64_t*>(next_memory_.data())}, shape,
                               config_.pad_token_id);
}

}  // namespace ember
