// Softmax over rows of scores and its backward, for rows in whole panels (small_product.h): up to kProbabilityRows rows
// of `stride` floats, of which the first `length` count and those up to the end of the last panel exist. Each pass runs
// over all rows before the next starts: what a row's fold waits for is then hidden behind other rows.
#pragma once

#include <cstdint>

namespace ember {

constexpr std::int64_t kProbabilityRows = 36;  // of whole small products, of 6 rows or 12

// In place: p = exp(s - max) / sum. The columns up to the end of the panel, which must not be NaN, become zero. A NaN
// or +infinity among a row's scores makes the whole row NaN; a score of -infinity has the probability 0.
void softmax(float* scores, std::int64_t stride, std::int64_t rows, std::int64_t length);

// From P and the gradient dO of M P, with M dropout's multipliers (null: all 1), in place:
//   gradients: dS = P (M dO - rowsum(M dO P));  probabilities: M P.
void softmax_backward(float* probabilities, float* gradients, const float* multipliers, std::int64_t stride,
                      std::int64_t rows, std::int64_t length);

}  // namespace ember
