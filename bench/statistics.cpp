#include "bench/statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <vector>

namespace ember {
namespace {

double mean(std::span<const double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

std::vector<double> logarithms(std::span<const double> values) {
  std::vector<double> out;
  for (const double value : values) {
    if (!(value > 0)) throw std::logic_error("a power law is fitted to positive values only");
    out.push_back(std::log(value));
  }
  return out;
}

// The sum of (a - mean a) (b - mean b).
double covariation(std::span<const double> a, std::span<const double> b) {
  const double mean_a = mean(a), mean_b = mean(b);
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += (a[i] - mean_a) * (b[i] - mean_b);
  return sum;
}

}  // namespace

double median(std::span<const double> values) {
  if (values.empty()) throw std::logic_error("the median of nothing");
  std::vector<double> sorted(values.begin(), values.end());
  std::sort(sorted.begin(), sorted.end());
  const std::size_t half = sorted.size() / 2;
  return sorted.size() % 2 == 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

double variation(std::span<const double> values) {
  if (values.size() < 2) return std::numeric_limits<double>::quiet_NaN();
  return std::sqrt(covariation(values, values) / static_cast<double>(values.size() - 1)) / mean(values);
}

PowerLaw fit_power_law(std::span<const double> x, std::span<const double> y) {
  if (x.size() != y.size()) throw std::logic_error("a power law is fitted to pairs");
  const std::vector<double> log_x = logarithms(x), log_y = logarithms(y);
  if (x.empty() || std::ranges::min(x) == std::ranges::max(x))
    throw std::logic_error("a power law is fitted to two different values of x or more");
  const double xx = covariation(log_x, log_x), xy = covariation(log_x, log_y), yy = covariation(log_y, log_y);
  const double exponent = xy / xx;
  return {exponent, std::exp(mean(log_y) - exponent * mean(log_x)), yy == 0 ? 1 : xy * xy / (xx * yy)};
}

}  // namespace ember
