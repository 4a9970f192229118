// The one kind of error that Ember reports. ember::Error is the user's to mend (a bad file, flag or value): its message
// is one line that says what, where and what was expected, and programs turn it into exit status 2, as they do with
// std::filesystem's errors. Any other exception is a defect of Ember's own and becomes exit status 1
// (runtime/program.h).
#pragma once

#include <fmt/core.h>
#if FMT_VERSION < 90000 && !defined(__CUDACC__)
#include <fmt/format.h>  // which then has to come before the first std::string is formatted
#endif

#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace ember {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Throws Error with the formatted message.
template <typename... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format(format, std::forward<Args>(args)...));
}

// Throws Error with the formatted message unless `condition` holds.
template <typename... Args>
void check(bool condition, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) fail(format, std::forward<Args>(args)...);
}

// Text that came from outside, fit for one line of a message: control characters and bytes that are not UTF-8 are
// escaped as \xNN, anything longer than `limit` bytes is cut and ends in "...".
std::string printable(std::string_view text, std::size_t limit = 80);

// "No such file or directory" for errno == ENOENT, and so on.
std::string errno_text(int error);

}  // namespace ember
