#include "bench/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <stdexcept>
#include <vector>

namespace ember {
namespace {
using Values = std::vector<double>;

TEST(Statistics, Median) {
  EXPECT_EQ(median(Values{3}), 3);
  EXPECT_EQ(median(Values{9, 1, 2}), 2);
  EXPECT_EQ(median(Values{4, 1, 100, 2}), 3);
  EXPECT_THROW(median(Values{}), std::logic_error);
}

TEST(Statistics, Variation) {
  EXPECT_TRUE(std::isnan(variation(Values{5})));  // not 0, as of figures that are all the same
  EXPECT_EQ(variation(Values{5, 5, 5}), 0);
  EXPECT_NEAR(variation(Values{2, 4, 4, 4, 5, 5, 7, 9}), std::sqrt(32.0 / 7) / 5, 1e-15);
}

TEST(Statistics, PowerLawIsFound) {
  const Values x{1, 2, 5, 40, 512};
  for (const double exponent : {-1.0, 0.0, 0.5, 1.0, 2.0}) {
    Values y;
    for (const double value : x) y.push_back(0.25 * std::pow(value, exponent));
    const PowerLaw law = fit_power_law(x, y);
    EXPECT_NEAR(law.exponent, exponent, 1e-12);
    EXPECT_NEAR(law.factor, 0.25, 1e-12);
    EXPECT_NEAR(law.r2, 1, 1e-12);
  }
}

// By hand: log2 y = 0, 2, 1 over log2 x = 0, 1, 2 has the slope 1/2, and explains a quarter of the variance.
TEST(Statistics, PowerLawIsTheLeastSquares) {
  const PowerLaw law = fit_power_law(Values{1, 2, 4}, Values{1, 4, 2});
  EXPECT_NEAR(law.exponent, 0.5, 1e-12);
  EXPECT_NEAR(law.factor, std::sqrt(2.0), 1e-12);
  EXPECT_NEAR(law.r2, 0.25, 1e-12);
}

TEST(Statistics, PowerLawRefusesWhatHasNone) {
  EXPECT_THROW(fit_power_law(Values{1}, Values{1}), std::logic_error);
  EXPECT_THROW(fit_power_law(Values{2, 2}, Values{1, 3}), std::logic_error);
  EXPECT_THROW(fit_power_law(Values{7, 7, 7, 7, 7}, Values{1, 2, 3, 4, 5}), std::logic_error);  // whose mean is not 7
  EXPECT_THROW(fit_power_law(Values{1, 2}, Values{1, 0}), std::logic_error);
  EXPECT_THROW(fit_power_law(Values{1, 2}, Values{1, NAN}), std::logic_error);
  EXPECT_THROW(fit_power_law(Values{1, 2, 3}, Values{1, 2}), std::logic_error);
}

}  // namespace
}  // namespace ember
