#include "model/device_batch.h"

#include <algorithm>
#include <cstring>

#include "model/batch_view.h"

namespace ember {
namespace {

// Puts the batch's arrays one after the other, from `base` on, and points the batch at them. Laid out twice: with the
// host's memory to copy into, and with the device's to point at.
Batch lay_out(const Batch& host, Arena& arena) {
  Batch batch = host;
  const auto take = [&arena](const std::int32_t*& array, std::int64_t count) {
    array = static_cast<const std::int32_t*>(arena.take(static_cast<std::size_t>(count) * sizeof(std::int32_t)));
  };
  take(batch.token_ids, host.tokens);
  take(batch.cu_seqlens, host.sequences + 1);
  take(batch.unique_ids, host.unique);
  take(batch.unique_offsets, host.unique + 1);
  take(batch.occurrences, host.tokens);
  if (!host.targets.empty()) batch.targets = arena.matrix(host.targets.rows, host.targets.cols);
  return batch;
}

void copy(const std::int32_t* to, const std::int32_t* from, std::size_t count) {
  std::copy_n(from, count, const_cast<std::int32_t*>(to));
}

}  // namespace

Batch DeviceBatch::load(const PackedBatch& packed, std::int64_t label_count) {
  const Batch host = view(packed, label_count);
  if (kernels_.on_host()) return host;
  Arena measure;
  lay_out(host, measure);
  if (memory_.size() < measure.used()) memory_ = kernels_.allocate(measure.used());
  staged_.resize(measure.used());
  Arena staging(staged_.data(), staged_.size()), device(memory_.data(), memory_.size());
  const Batch staged = lay_out(host, staging);
  copy(staged.token_ids, host.token_ids, packed.token_ids.size());
  copy(staged.cu_seqlens, host.cu_seqlens, packed.cu_seqlens.size());
  copy(staged.unique_ids, host.unique_ids, packed.unique_ids.size());
  copy(staged.unique_offsets, host.unique_offsets, packed.unique_offsets.size());
  copy(staged.occurrences, host.occurrences, packed.occurrences.size());
  if (!host.targets.empty()) std::memcpy(staged.targets.data, host.targets.data, packed.targets.size() * sizeof(float));
  kernels_.upload(memory_.data(), staged_.data(), staged_.size());
  return lay_out(host, device);
}

}  // namespace ember
