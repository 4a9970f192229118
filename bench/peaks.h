// What a device can do, measured: the limits that everything else is held against.
#pragma once

#include <limits>

#include "bench/backend.h"
#include "bench/operations.h"

namespace ember {

// No numbers where they were not measured.
struct Peaks {
  double bytes_per_second = std::numeric_limits<double>::quiet_NaN();  // of a large copy, read and written
  double flop_per_second = std::numeric_limits<double>::quiet_NaN();   // of a large product
};

// A copy that fits no cache; a square product that takes the device long enough, with operands from `workspace`.
Prepared peak_copy(Backend& backend);
Prepared peak_product(Backend& backend, Workspace& workspace);

// Both, each the median of `repetitions`.
Peaks measure_peaks(Backend& backend, int repetitions);

}  // namespace ember
