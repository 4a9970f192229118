// Google Benchmark's --benchmark_filter, looked at before anything is measured or printed. Only for the programs, which
// link that library.
#pragma once

#include <benchmark/benchmark.h>
#include <fmt/ranges.h>

#include <ostream>
#include <regex>
#include <string>
#include <vector>

#include "runtime/error.h"

namespace ember {

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

inline void require_matches(const std::string& filter, const std::vector<std::string>& absent) {
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
}

// The filter that was given; empty: none. Error unless it leaves one of the registered benchmarks at least; `absent`,
// lines that say what is not registered and why, is part of it.
inline std::string checked_filter(const std::vector<std::string>& absent) {
  std::string filter = benchmark::GetBenchmarkFilter();
  if (!filter.empty()) require_matches(filter, absent);
  return filter;
}

}  // namespace ember
