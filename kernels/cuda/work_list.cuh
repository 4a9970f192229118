// Lists of work as a kernel's argument, whose items take some blocks each, one after another.
#pragma once

#include "runtime/cuda/simt.h"

namespace ember {

// The item that a block belongs to: the last whose first block, of `count` >= 1 that do not decrease, is not beyond it.
// Every look waits for the one before it, so there are few: halving, not one after another.
__device__ inline int item_of(const int* first_block, int count, int block) {
  int low = 0;
  for (int high = count; high - low > 1;) {
    const int middle = (low + high) / 2;
    (first_block[middle] <= block ? low : high) = middle;
  }
  return low;
}

}  // namespace ember
