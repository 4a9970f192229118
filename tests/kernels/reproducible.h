// What the tests of row-wise kernels share: running an operation so that its bits can be compared, and how far sums may
// stray.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <vector>

#include "kernels/kernels.h"
#include "tests/kernels/strided.h"
#include "tests/support.h"

namespace ember::testing {

using Results = std::vector<std::vector<float>>;

// The values of `outputs`, whose surroundings must be intact.
inline Results results(std::initializer_list<const StridedMatrix*> outputs) {
  Results values;
  for (const StridedMatrix* output : outputs) {
    EXPECT_TRUE(output->intact()) << "output " << values.size() << " was written outside of its elements";
    values.push_back(output->values());
  }
  return values;
}

// run(kernels) three times, twice with one thread and once with two: all must give the same bits.
template <typename Run>
Results run_reproducibly(const Run& run) {
  const auto one = make_cpu_kernels(Precision::fp32, 1), two = make_cpu_kernels(Precision::fp32, 2);
  const Results first = run(*one);
  EXPECT_EQ(first, run(*one)) << "a repetition gives other bits";
  EXPECT_EQ(first, run(*two)) << "two threads give other bits than one";
  return first;
}

inline ::testing::AssertionResult all_close(const std::vector<float>& actual, const std::vector<double>& expected,
                                            double atol, double rtol) {
  return all_close(std::span<const float>(actual), std::span<const double>(expected), atol, rtol);
}

// For column sums of `rows` terms of size about one. A term is off by a few rounding errors of 6e-8, and each of the
// additions rounds a partial sum of size sqrt(rows): sqrt(rows) sqrt(rows) 6e-8 when the errors add up like noise, and
// a factor of 4 for the terms' own errors and the largest of many sums.
inline double sum_tolerance(std::int64_t rows) {
  return 4 * 6e-8 * static_cast<double>(rows) + 1e-6;
}

}  // namespace ember::testing
