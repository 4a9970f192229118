// How far a product may be off when tensor cores compute it.
#pragma once

#include <cmath>
#include <cstdint>

namespace ember::testing {

// Of f32 sums of `terms` products of unit normals times `size`. Tensor cores add a few products to the sum at a time, 4
// on a T4 and more on later devices, and cut off what f32 cannot hold instead of rounding (Fasi, Higham, Mikaitis and
// Pranesh 2021, Numerical behavior of NVIDIA tensor cores, PeerJ Computer Science 7:e330). Each time up to one unit in
// the last place is lost, at most 2^-23 of the sum so far, and always towards zero, so that losses do not cancel. The
// sum of k products has a deviation of sqrt(k); at 4 deviations, for the largest of thousands of sums, and with n
// terms,
//   2^-23 (sum over b = 1 .. n / 4 of 4 sqrt(4 b)) <= 2^-23 2/3 (n + 4)^(3/2).
// A simulation of it for the shapes of the tests comes up to half of that.
inline double product_error(std::int64_t terms, double size = 1) {
  return size * 0x1p-23 * 2 / 3 * std::pow(static_cast<double>(terms) + 4, 1.5);
}

}  // namespace ember::testing
