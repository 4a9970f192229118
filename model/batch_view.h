// A packed batch of data/ as the kernels' view of it.
#pragma once

#include "data/dataset.h"
#include "kernels/batch.h"

namespace ember {

// Host memory, hence for the CPU backend; `packed` must outlive the view. Targets are empty when K is 0.
Batch view(const PackedBatch& packed, std::int64_t label_count);

}  // namespace ember
