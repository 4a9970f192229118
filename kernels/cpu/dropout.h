// Dropout masks on the CPU, recomputed wherever they are needed: the Philox words of 8, 16 or 32 blocks at a time, by
// the width of the vector registers that they stand in side by side.
#pragma once

#include <cstdint>

#include "runtime/philox.h"

namespace ember {

// out[i] = what element first + i of the stream is multiplied by: dropout.scale() where it survives, else 0.
void dropout_multipliers(float* out, std::int64_t first, std::int64_t count, const Dropout& dropout);

// The same for `rows` runs of `count` elements: run r starts at element first + r * step, a multiple of 4, and is
// written to out + r * out_stride, which must have room for `count` rounded up to a multiple of 4. Runs share vectors,
// so short ones cost no more than long ones.
void dropout_multiplier_rows(float* out, std::int64_t out_stride, std::int64_t rows, std::int64_t first,
                             std::int64_t step, std::int64_t count, const Dropout& dropout);

}  // namespace ember
