#include "runtime/program.h"

#include <fcntl.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <span>
#include <string>
#include <string_view>

#include "runtime/error.h"

namespace ember {
namespace {

// Names of files and flags stand in messages as they were given, so what a terminal would act on is escaped here.
void print_line(const std::string& program, std::string message) {
  std::replace(message.begin(), message.end(), '\n', ' ');
  const std::string line = printable(fmt::format("{}: {}", program, message), std::string::npos);
  std::fprintf(stderr, "%s\n", line.c_str());
}

// A file that is opened later must not take the place of a standard stream that the caller has closed: what is printed
// would go into it. Opened the other way round, so that using the stream is the error that it was.
void occupy_standard_streams() {
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (fcntl(stream, F_GETFD) < 0)  // which fails for want of the stream alone
      static_cast<void>(open("/dev/null", stream == STDIN_FILENO ? O_WRONLY : O_RDONLY));
}

// What an option takes, by the name of its type: N, or N:INT in [..], and so on.
struct Expected {
  explicit Expected(const CLI::Option& option) {
    const std::string written = option.get_type_name(), type = written.substr(0, written.find(':'));
    positive = type == "UINT";
    whole = type == "INT" || positive || type == "N";
    number = whole || type == "FLOAT" || type == "P";
  }
  const char* what() const { return whole ? "a whole number" : number ? "a number" : "a value"; }
  bool positive, whole, number;
};

bool is_number(const std::string& text) {
  char* end = nullptr;
  static_cast<void>(std::strtod(text.c_str(), &end));
  return end == text.c_str() + text.size();
}

// Whether 64 bits hold what is a number of that kind: a whole one, or one that is not too large or too small for a
// double, of which strtod complains where it is merely subnormal, too.
bool fits(const std::string& text, const Expected& expected) {
  errno = 0;
  double number = 1;
  if (!expected.whole)
    number = std::strtod(text.c_str(), nullptr);
  else if (expected.positive)
    static_cast<void>(std::strtoull(text.c_str(), nullptr, 10));
  else
    static_cast<void>(std::strtoll(text.c_str(), nullptr, 10));
  return errno != ERANGE || std::fpclassify(number) == FP_SUBNORMAL;
}

void require_value(const CLI::App& app, const CLI::Option& option, const std::string& value) {
  const Expected expected(option);
  check(!value.empty(), "{}: is empty, a value was expected", option.get_name());
  const bool is_option = value.starts_with('-') && app.get_option_no_throw(value.substr(0, value.find('='))) != nullptr;
  check(!is_option, "{}: {} follows, {} was expected", option.get_name(), value, expected.what());
  const auto must_be = [&](const char* what, bool it_is) {
    check(it_is, "{} {}: must be {}", option.get_name(), printable(value), what);
  };
  const std::string_view digits = std::string_view(value).substr(value.starts_with('-') || value.starts_with('+'));
  const bool has_digits_alone = digits.find_first_not_of("0123456789") == digits.npos;
  const bool octal = digits.size() > 1 && digits[0] == '0' && has_digits_alone;
  if (!expected.number) return;
  must_be("a whole number", !expected.whole || has_digits_alone);
  must_be("a number without leading zeros", !octal);
  must_be("a number", is_number(value));
  must_be("a number within range", fits(value, expected));
}

// CLI11 takes an empty text, as of a variable that is not set, for zero, a leading zero for octal, a number that 64
// bits do not hold for the nearest that they do, and another option for the value that was forgotten, or says of these,
// or of 2.5 where a whole number is meant, what does not help.
void require_values(const CLI::App& app) {
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_positional()) continue;
    if (option->get_items_expected_max() == 0) {
      for (const std::string& value : option->results())
        check(value == "true" || value == "false", "{}: takes no value", option->get_name());
      continue;
    }
    for (const std::string& value : option->results()) require_value(app, *option, value);
  }
}

// CLI11 leaves out what is empty of values with a delimiter between them, and keeps no other text of them.
void require_items(const CLI::App& app, int argc, char** argv) {
  const CLI::Option* list = nullptr;
  for (std::string_view word : std::span(argv, static_cast<std::size_t>(argc))) {
    if (word.starts_with("--")) {
      const std::size_t equals = word.find('=');
      list = app.get_option_no_throw(std::string(word.substr(0, equals)));
      if (equals == word.npos) continue;
      word.remove_prefix(equals + 1);
    }
    if (list == nullptr || list->get_delimiter() == '\0' || word.empty()) continue;
    const char delimiter = list->get_delimiter();
    const bool whole =
        word.front() != delimiter && word.back() != delimiter && word.find(std::string(2, delimiter)) == word.npos;
    check(whole, "{} {}: a value was expected on both sides of each `{}`", list->get_name(),
          printable(std::string(word)), delimiter);
  }
}

// Of options that take so many values and no other number: CLI11 names the option before a colon and says how many of
// its type are missing or too many.
void require_count(const CLI::App& app, const CLI::ArgumentMismatch& error) {
  const std::string text = error.what();
  const CLI::Option* option = app.get_option_no_throw(text.substr(0, text.find(':')));
  if (option == nullptr) return;
  const int wanted = option->get_items_expected_max();
  if (wanted == 0 || option->get_items_expected_min() != wanted) return;
  check(wanted == 1, "{}: has {} of {} values", option->get_name(), option->count(), wanted);
  check(option->count() > 1, "{}: nothing follows, {} was expected", option->get_name(), Expected(*option).what());
  fail("{}: has {} values, one was expected", option->get_name(), option->count());
}

// Of a number, which it is, but none that the option's type holds. CLI11 names the option in a sentence only, so each
// is converted once more.
[[noreturn]] void refuse_range(CLI::App& app, const CLI::ConversionError& error) {
  for (CLI::Option* option : app.get_options()) {
    try {
      if (option->count() > 0) option->run_callback();
    } catch (const CLI::ConversionError&) {
      fail("{} {}: must be a number within range", option->get_name(),
           printable(fmt::format("{}", fmt::join(option->results(), ","))));
    }
  }
  throw error;
}

void parse(CLI::App& app, int argc, char** argv) {
  require_items(app, argc, argv);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ArgumentMismatch& error) {
    require_count(app, error);
    throw;
  } catch (const CLI::ConversionError& error) {
    require_values(app);
    refuse_range(app, error);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() != 0) require_values(app);
    throw;
  }
  require_values(app);
}

}  // namespace

int run_program(CLI::App& app, int argc, char** argv, const std::function<int()>& body) {
  const std::string program = std::filesystem::path(argc > 0 ? argv[0] : "ember").filename().string();
  // A closed pipe, or a limit on the size of files, is an error of the write that meets it.
  for (const int signal : {SIGPIPE, SIGXFSZ}) std::signal(signal, SIG_IGN);
  occupy_standard_streams();
  try {
    parse(app, argc, argv);
    return body();
  } catch (const CLI::Success& success) {  // --help
    const int status = app.exit(success);
    std::cout.flush();
    if (std::cout) return status;
    print_line(program, "standard output: cannot be written");
    return 2;
  } catch (const CLI::ExtrasError&) {  // its own text has them in reverse
    print_line(program, fmt::format("{}: not expected (see {} --help)", fmt::join(app.remaining(), " "), program));
    return 2;
  } catch (const CLI::ParseError& error) {
    print_line(program, fmt::format("{} (see {} --help)", error.what(), program));
    return 2;
  } catch (const Error& error) {
    print_line(program, error.what());
    return 2;
  } catch (const std::filesystem::filesystem_error& error) {  // a path that may not even be looked at
    print_line(program, fmt::format("{}: {}", printable(error.path1().string(), 4096), error.code().message()));
    return 2;
  } catch (const std::exception& error) {
    print_line(program, fmt::format("internal error: {}", error.what()));
    return 1;
  }
}

void start_anew(char** argv) {
  // By the link itself the process would be called "exe" in every list of processes.
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (!error) execv(program.c_str(), argv);
}

}  // namespace ember
