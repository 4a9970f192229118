#include "model/batch_view.h"

namespace ember {

Batch view(const PackedBatch& packed, std::int64_t label_count) {
  Batch batch;
  batch.sequences = packed.sequences();
  batch.tokens = packed.tokens();
  batch.max_length = packed.max_length;
  batch.unique = static_cast<std::int64_t>(packed.unique_ids.size());
  batch.token_ids = packed.token_ids.data();
  batch.cu_seqlens = packed.cu_seqlens.data();
  batch.unique_ids = packed.unique_ids.data();
  batch.unique_offsets = packed.unique_offsets.data();
  batch.occurrences = packed.occurrences.data();
  if (label_count > 0 && !packed.targets.empty())
    batch.targets = matrix(const_cast<float*>(packed.targets.data()), batch.sequences, label_count);
  return batch;
}

}  // namespace ember
