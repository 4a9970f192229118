// Google Benchmark with errors in one line: its flags are looked at before anything is measured or printed, and what
// cannot be written is told. Only for the programs, which link that library.
#pragma once

#include <benchmark/benchmark.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <initializer_list>
#include <iostream>
#include <memory>
#include <ostream>
#include <regex>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/error.h"

namespace ember {

// Seconds, as --benchmark_min_time takes them; from version 1.8 on as 0.5s, or as 100x for iterations, too.
inline bool is_least_time(const std::string& value) {
  char* end = nullptr;
  const double number = std::strtod(value.c_str(), &end);
  const std::string_view unit(end);
  return end != value.c_str() && number >= 0 && std::isfinite(number) && (unit.empty() || unit == "s" || unit == "x");
}

// Error for a value that Google Benchmark answers with its usage and status 0, with two lines, or not at all.
inline void check_flag(const std::string& argument) {
  const std::size_t equals = argument.find('=');
  if (equals == argument.npos) return;
  const std::string name = argument.substr(0, equals), value = argument.substr(equals + 1);
  const auto must_be = [&](const char* what, bool holds) { check(holds, "{}: must be {}", printable(argument), what); };
  const auto one_of = [&](std::initializer_list<std::string_view> values) {
    return std::find(values.begin(), values.end(), value) != values.end();
  };
  if (name == "--benchmark_format" || name == "--benchmark_out_format")
    must_be("console, json or csv", one_of({"console", "json", "csv"}));
  if (name == "--benchmark_color")
    must_be("auto, true or false", one_of({"auto", "true", "false", "yes", "no", "on", "off", "1", "0"}));
  if (name == "--benchmark_time_unit") must_be("ns, us, ms or s", one_of({"ns", "us", "ms", "s"}));
  if (name == "--benchmark_min_time" || name == "--benchmark_min_warmup_time")
    must_be("a number of seconds from 0 on", is_least_time(value));
  if (name == "--benchmark_repetitions")
    must_be("a whole number from 1 to 999999", !value.empty() && value.size() < 7 && value.front() != '0' &&
                                                   value.find_first_not_of("0123456789") == value.npos);
  if (name == "--benchmark_out")
    check(std::ofstream(value, std::ios::app).good(), "{}: cannot be written", printable(argument));
}

// Hands Google Benchmark its flags: `defaults`, and the arguments that no option of the program's own has taken.
// `refuse` throws for those that this program does not take, of any value that the flag may have.
inline void initialize_benchmark(
    const std::string& program, const std::vector<std::string>& arguments,
    std::initializer_list<const char*> defaults = {},
    const std::function<void(const std::string&)>& refuse = [](const std::string&) {}) {
  // Google Benchmark keeps where the program's name lies, for its own forms' context.
  static std::vector<std::string> words{program};
  words.insert(words.end(), defaults.begin(), defaults.end());
  for (const std::string& argument : arguments) {
    check(argument.starts_with("--benchmark_"), "{}: no such option (see {} --help)", printable(argument), program);
    check_flag(argument);
    refuse(argument);
    words.push_back(argument);
  }
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  int argc = static_cast<int>(argv.size());
  benchmark::Initialize(&argc, argv.data());
  check(argc == 1, "{}: no such option of Google Benchmark's (see {} --help)", argc > 1 ? printable(argv[1]) : "",
        program);
}

// With it RunSpecifiedBenchmarks runs nothing and prints nothing: it counts what it would run. A --benchmark_out file
// it opens all the same, which the run then begins anew.
class CountingReporter : public benchmark::BenchmarkReporter {
 public:
  CountingReporter() {
    SetOutputStream(&nowhere_);
    SetErrorStream(&nowhere_);
  }
  bool ReportContext(const Context&) override { return false; }
  void ReportRuns(const std::vector<Run>&) override {}

 private:
  std::ostream nowhere_{nullptr};
};

// The filter that was given; empty: none. Error unless it leaves one of the registered benchmarks at least; `absent`,
// lines that say what is not registered and why, is part of it.
inline std::string checked_filter(const std::vector<std::string>& absent) {
  std::string filter = benchmark::GetBenchmarkFilter();
  if (filter.empty()) return filter;
  const std::string shown = "--benchmark_filter=" + printable(filter);
  try {
    static_cast<void>(std::regex(filter, std::regex::extended));
  } catch (const std::regex_error&) {
    fail("{}: not a regular expression", shown);
  }
  CountingReporter counter;
  check(benchmark::RunSpecifiedBenchmarks(&counter, filter) > 0,
        "{}: no benchmark has a name like that{}{}; --benchmark_list_tests lists all", shown,
        absent.empty() ? "" : "; ", fmt::join(absent, ", "));
  return filter;
}

// The value of the last of `arguments` that sets `flag`, or what is so without it.
inline std::string value_of(const std::vector<std::string>& arguments, const std::string& flag, std::string value) {
  for (const std::string& argument : arguments)
    if (argument.starts_with(flag + "=")) value = argument.substr(flag.size() + 1);
  return value;
}

// A form of Google Benchmark's for the file of --benchmark_out, whose last words say whether all could be written.
template <typename Form>
class WholeFile final : public Form {
 public:
  using Form::Form;
  void Finalize() override {
    Form::Finalize();
    check(this->GetOutputStream().flush().good(), "--benchmark_out: cannot be written");
  }
};

// Null without --benchmark_out.
inline std::unique_ptr<benchmark::BenchmarkReporter> file_reporter(const std::vector<std::string>& arguments) {
  if (value_of(arguments, "--benchmark_out", "").empty()) return nullptr;
  const std::string format = value_of(arguments, "--benchmark_out_format", "json");
  if (format == "console")
    return std::make_unique<WholeFile<benchmark::ConsoleReporter>>(benchmark::ConsoleReporter::OO_None);
  if (format == "json") return std::make_unique<WholeFile<benchmark::JSONReporter>>();
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"  // which csv has been for years
  return std::make_unique<WholeFile<benchmark::CSVReporter>>();
#pragma GCC diagnostic pop
}

// Runs what `filter` leaves; `reporter` prints, or if it is null the form that was asked for. Error where standard
// output, or the file of --benchmark_out, has no room, of which Google Benchmark takes no notice.
inline void run_benchmarks(const std::vector<std::string>& arguments, const std::string& filter,
                           benchmark::BenchmarkReporter* reporter = nullptr) {
  const auto to_file = file_reporter(arguments);
  benchmark::RunSpecifiedBenchmarks(reporter, to_file.get(), filter);
  check(std::cout.flush().good(), "standard output: cannot be written");
}

}  // namespace ember
