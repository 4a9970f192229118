// A packed batch in the memory of the kernels' device.
#pragma once

#include <vector>

#include "data/dataset.h"
#include "kernels/kernels.h"

namespace ember {

class DeviceBatch {
 public:
  explicit DeviceBatch(Kernels& kernels) : kernels_(kernels) {}
  // Valid until the next call and as long as `packed`: on the host it is a view, else all arrays go over in one copy.
  // Targets are empty when K is 0.
  Batch load(const PackedBatch& packed, std::int64_t label_count);

 private:
  Kernels& kernels_;
  std::vector<std::byte> staged_;
  Buffer memory_;
};

}  // namespace ember
