// What every test may need: the folders it reads, a scratch folder that cleans up, and a comparator that never lets a
// NaN pass.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <span>
#include <string>

#include "runtime/error.h"
#include "runtime/file.h"
#include "tests/folders.h"

namespace ember::testing {

// The real data set and vocabulary live outside the repository: EMBER_SHARED, or ../shared beside the checkout.
inline std::filesystem::path shared_dir() {
  if (const char* path = std::getenv("EMBER_SHARED")) return path;
  return source_dir().parent_path() / "shared";
}

inline bool data_required() {
  const char* value = std::getenv("EMBER_REQUIRE_DATA");
  return value != nullptr && std::string(value) == "1";
}

// Skips the running test by name when `where` is absent; fails it where the environment promises that it is there.
#define EMBER_NEEDS_DATA(where)                                                             \
  do {                                                                                      \
    const std::filesystem::path needed = (where);                                           \
    if (!std::filesystem::exists(needed)) {                                                 \
      if (::ember::testing::data_required()) FAIL() << needed << " is required but absent"; \
      GTEST_SKIP() << needed << " is not here";                                             \
    }                                                                                       \
  } while (false)

// A folder of the test's own.
class TemporaryDirectory : public ember::TemporaryDirectory {
 public:
  TemporaryDirectory() : ember::TemporaryDirectory("ember-test-") {}
};

// The message of the Error that `action` throws; empty when it throws none.
template <typename Action>
std::string error_of(const Action& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

// The same without `named`, the file's name say, with which it must begin, as one line.
template <typename Action>
std::string error_about(const std::string& named, const Action& action) {
  const std::string message = error_of(action);
  if (message.empty()) return message;
  EXPECT_TRUE(message.starts_with(named)) << message;
  EXPECT_EQ(message.find('\n'), message.npos) << message;
  return message.substr(std::min(named.size(), message.size()));
}

// Skips the running test where `action` throws an Error, as where the processor lacks what it asks for.
#define EMBER_NEEDS(action)                                                  \
  do {                                                                       \
    const std::string lacking = ::ember::testing::error_of([&] { action; }); \
    if (!lacking.empty()) GTEST_SKIP() << lacking;                           \
  } while (false)

// What `action` writes to standard error.
template <typename Action>
std::string stderr_of(const Action& action) {
  ::testing::internal::CaptureStderr();
  action();
  return ::testing::internal::GetCapturedStderr();
}

#define EXPECT_CONTAINS(message, part)                                                                              \
  do {                                                                                                              \
    const std::string contains_in = (message);                                                                      \
    EXPECT_NE(contains_in.find(part), std::string::npos) << "\"" << contains_in << "\" lacks \"" << (part) << "\""; \
  } while (false)

// Finite first, then |actual - expected| <= atol + rtol |expected|, reporting the worst element.
template <typename A, typename E>
::testing::AssertionResult all_close(std::span<const A> actual, std::span<const E> expected, double atol, double rtol) {
  if (actual.size() != expected.size())
    return ::testing::AssertionFailure() << "sizes differ: " << actual.size() << " and " << expected.size();
  double worst = 0;
  std::size_t where = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const double a = static_cast<double>(actual[i]), e = static_cast<double>(expected[i]);
    if (!std::isfinite(a) || !std::isfinite(e))
      return ::testing::AssertionFailure() << "element " << i << " is not finite: " << a << ", expected " << e;
    const double excess = std::fabs(a - e) - (atol + rtol * std::fabs(e));
    if (i == 0 || excess > worst) worst = excess, where = i;
  }
  if (actual.empty() || worst <= 0) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "element " << where << " of " << actual.size() << " is "
                                       << static_cast<double>(actual[where]) << ", expected "
                                       << static_cast<double>(expected[where]) << " (atol " << atol << ", rtol " << rtol
                                       << ", over by " << worst << ")";
}

// ||actual - expected|| / ||expected|| in L2; NaN or infinity anywhere gives infinity, so that no bound accepts it.
template <typename A, typename E>
double relative_l2(std::span<const A> actual, std::span<const E> expected) {
  if (actual.size() != expected.size()) return INFINITY;
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const double a = static_cast<double>(actual[i]), e = static_cast<double>(expected[i]);
    if (!std::isfinite(a) || !std::isfinite(e)) return INFINITY;
    difference += (a - e) * (a - e);
    norm += e * e;
  }
  if (norm == 0) return difference == 0 ? 0 : INFINITY;
  return std::sqrt(difference / norm);
}

}  // namespace ember::testing
