// What is said of repeated measurements.
#pragma once

#include <span>

namespace ember {

// Of one value or more; of an even number of values the mean of the middle two.
double median(std::span<const double> values);

// The coefficient of variation: standard deviation (of a sample, n - 1) over mean. Not a number for fewer than two
// values, of which nothing is known.
double variation(std::span<const double> values);

// y = factor x^exponent, by least squares of log y over log x.
struct PowerLaw {
  double exponent = 0;
  double factor = 0;
  double r2 = 0;  // the share of the variance of log y that it explains; 1 where y does not vary
};

// Two different x or more, all values positive; std::logic_error otherwise.
PowerLaw fit_power_law(std::span<const double> x, std::span<const double> y);

}  // namespace ember
