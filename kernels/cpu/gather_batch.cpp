// A batch from a data set (Kernels::gather_batch): copies of its rows' tokens, and the occurrences of each id by
// sorting (id, row of the batch) in one word. A few hundred tokens in training: one thread.
#include <algorithm>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/require.h"

namespace ember {
namespace {

std::int64_t row_of(const RowQueue& queue, std::int64_t place) {
  return queue.order == nullptr ? place : queue.order[place];
}

void gather_tokens(const BatchArrays& arrays, const RowQueue& queue, const BatchShape& shape) {
  std::int64_t total = 0;
  arrays.cu_seqlens[0] = 0;
  for (std::int64_t b = 0; b < shape.rows; ++b) {
    const std::int64_t row = row_of(queue, *queue.next + b);
    const std::int64_t begin = queue.data.offsets[row], length = queue.data.offsets[row + 1] - begin;
    require(total + length <= shape.tokens && length <= shape.max_length, "gather_batch: the shape is another batch's");
    std::copy_n(queue.data.token_ids + begin, length, arrays.token_ids + total);
    arrays.cu_seqlens[b + 1] = static_cast<std::int32_t>(total += length);
  }
  require(total == shape.tokens, "gather_batch: the shape is another batch's");
}

void gather_targets(const Tensor& targets, const RowQueue& queue) {
  for (std::int64_t b = 0; b < targets.rows; ++b) {
    const std::int64_t row = row_of(queue, *queue.next + b);
    std::fill_n(targets.row(b), targets.cols, 0.0f);
    for (std::int64_t i = queue.data.label_offsets[row]; i < queue.data.label_offsets[row + 1]; ++i)
      targets.row(b)[queue.data.label_ids[i]] = 1.0f;
  }
}

// Returns the number of different ids. `keys`: room for as many words as tokens.
std::int64_t list_occurrences(const BatchArrays& arrays, std::int64_t tokens, std::int32_t padding_id,
                              std::int64_t* keys) {
  std::int64_t* end = keys;
  for (std::int64_t n = 0; n < tokens; ++n)
    if (const std::int64_t id = arrays.token_ids[n]; id != padding_id) *end++ = id << 32 | n;
  std::sort(keys, end);
  std::int64_t unique = 0;
  for (const std::int64_t* key = keys; key != end; ++key) {
    const auto id = static_cast<std::int32_t>(*key >> 32);
    if (unique == 0 || arrays.unique_ids[unique - 1] != id) {
      arrays.unique_ids[unique] = id;
      arrays.unique_offsets[unique++] = static_cast<std::int32_t>(key - keys);
    }
    arrays.occurrences[key - keys] = static_cast<std::int32_t>(*key);
  }
  arrays.unique_offsets[unique] = static_cast<std::int32_t>(end - keys);
  return unique;
}

}  // namespace

Batch CpuKernels::gather_batch(const BatchArrays& arrays, const RowQueue& queue, const BatchShape& shape,
                               std::int32_t padding_id) {
  require(shape.sequences == shape.rows && (arrays.targets.empty() || arrays.targets.rows == shape.rows),
          "gather_batch: shapes");
  gather_tokens(arrays, queue, shape);
  gather_targets(arrays.targets, queue);
  *queue.next += shape.rows;
  auto* keys = static_cast<std::int64_t*>(scratch(static_cast<std::size_t>(shape.tokens) * sizeof(std::int64_t)));
  const std::int64_t unique = list_occurrences(arrays, shape.tokens, padding_id, keys);
  return batch_of(arrays, shape, unique);
}

}  // namespace ember
