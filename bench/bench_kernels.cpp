// bench_kernels: every operation of Kernels, on every backend there is, against what the device can do. docs/bench.md
// says how to read it.
#include <benchmark/benchmark.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "bench/cases.h"
#include "bench/google_benchmark.h"
#include "bench/kernel_report.h"
#include "bench/machine.h"
#include "bench/results_file.h"
#include "runtime/program.h"
#include "runtime/shares.h"

namespace {

struct Options {
  std::string device = "auto";
  int threads = 0;
  double seconds = 0.01;
  bool large = false;
  std::string out;
};

// One line for each benchmark and, with --out, one result.
class Reporter : public benchmark::BenchmarkReporter {
 public:
  Reporter(const ember::Suite& suite, ember::ResultsFile* results) : suite_(suite), results_(results) {
    for (std::size_t i = 0; i < suite.size(); ++i) cases_[suite.at(i).name()] = i;
  }

  bool ReportContext(const Context&) override {
    ember::print(ember::table_head());
    return true;
  }
  // All repetitions of one benchmark; or what Google Benchmark makes of them, which is nothing new.
  void ReportRuns(const std::vector<Run>& runs) override {
    if (runs.front().run_type == Run::RT_Aggregate) return;
    const ember::Case& measured = suite_.at(cases_.at(runs.front().run_name.function_name));
    if (measured.seconds.empty()) return;
    const ember::Peaks peaks = suite_.peaks(*measured.backend);
    ember::print(ember::table_line(measured, peaks));
    if (results_ != nullptr) results_->add(ember::as_json(measured, peaks));
  }

 private:
  const ember::Suite& suite_;
  ember::ResultsFile* results_;
  std::map<std::string, std::size_t> cases_;
};

// For Google Benchmark's own forms, which have no percentages: in an order of its own the peaks come last, if at all.
void set_counters(benchmark::State& state, const ember::Work& work, double seconds) {
  state.counters["bytes"] = work.bytes;
  state.counters["FLOP"] = work.flop;
  state.counters["GB/s"] = work.bytes / seconds * 1e-9;
  state.counters["TFLOP/s"] = work.flop / seconds * 1e-12;
}

// Every repetition is one iteration, whose time is the median of what ember::time_call samples: so the emptying of the
// caches and the way of a launch to the device stay out of it.
void register_all(ember::Suite& suite) {
  for (std::size_t i = 0; i < suite.size(); ++i)
    benchmark::RegisterBenchmark(suite.at(i).name().c_str(),
                                 [&suite, i](benchmark::State& state) {
                                   double seconds = 0;
                                   for (auto _ : state) state.SetIterationTime(seconds = suite.run(i));
                                   set_counters(state, suite.at(i).work, seconds);
                                 })
        ->Iterations(1)
        ->UseManualTime()
        ->Unit(benchmark::kMicrosecond);
}

// The peaks run whatever the filter says, because percentages are of the same run.
std::string with_peaks(const std::string& filter) {
  const bool peaks_are_in = filter.empty() || filter == "all" || filter.front() == '-';
  return peaks_are_in ? filter : "^peak_|" + filter;
}

// Whether Google Benchmark is to print by itself: names, or since a form was asked for.
bool prints_itself(const std::vector<std::string>& arguments) {
  return std::any_of(arguments.begin(), arguments.end(), [](const std::string& argument) {
    return argument.starts_with("--benchmark_format") || argument.starts_with("--benchmark_report") ||
           argument.starts_with("--benchmark_display") || argument.starts_with("--benchmark_list_tests");
  });
}

std::string context(const Options& options, const ember::Suite& suite) {
  nlohmann::ordered_json json = nlohmann::ordered_json::parse(ember::machine_json());
  json["program"] = "bench_kernels";
  json["seconds_per_repetition"] = options.seconds;
  for (const auto& backend : suite.backends()) json["devices"][backend->name()] = backend->device_name();
  return json.dump();
}

int run(const Options& options, const std::string& program, const std::vector<std::string>& rest) {
  ember::check_threads(options.threads);
  ember::check(options.seconds > 0 && options.seconds <= 60, "--seconds {}: must be above 0 and at most 60",
               options.seconds);
  // The file would be begun anew and stay empty.
  ember::check(options.out.empty() || !prints_itself(rest),
               "--out: nothing goes there of what Google Benchmark prints by itself; use --benchmark_out");
  ember::initialize_benchmark(program, rest, {"--benchmark_repetitions=9"}, [](const std::string& argument) {
    ember::check(!argument.starts_with("--benchmark_min_"),
                 "{}: has no say here; --seconds is what a repetition measures, after a warm-up of its own",
                 ember::printable(argument));
  });
  std::vector<std::string> absent;
  auto backends = ember::make_backends(ember::Job::operations, options.device, options.threads, absent);
  ember::Suite suite(std::move(backends), {options.seconds}, options.large);
  register_all(suite);
  const std::string filter = with_peaks(ember::checked_filter(absent));
  std::optional<ember::ResultsFile> results;
  if (!options.out.empty()) results.emplace(options.out, context(options, suite));
  ember::print_absent(absent);
  Reporter reporter(suite, results ? &*results : nullptr);
  ember::run_benchmarks(rest, filter, prints_itself(rest) ? nullptr : &reporter);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  ember::steady_threads(argv);
  CLI::App app("Measures every operation of the kernels against what the device can do.");
  Options options;
  app.allow_extras();
  app.option_defaults()->always_capture_default();
  app.add_option("--device", options.device, "auto (all there are), cpu, cpu-bf16, cpu-int8, cuda or cuda:N");
  app.add_option("--threads", options.threads, "threads of the CPU; 0: all, or as many as a container may use");
  app.add_option("--seconds", options.seconds, "time measured in each repetition of a benchmark");
  app.add_flag("--large", options.large, "also MiniLM's and BERT-base's large batches");
  app.add_option("--out", options.out, "file for the results, as JSON");
  app.footer(
      "Google Benchmark's flags are taken as well, among them\n"
      "  --benchmark_filter=REGEX      only benchmarks like layernorm or /tinybert/308/cold/\n"
      "  --benchmark_repetitions=N     9 unless told\n"
      "  --benchmark_list_tests        names only\n"
      "  --benchmark_format=console    Google Benchmark's own table; or json, csv");
  const std::string program = argv[0];
  return ember::run_program(app, argc, argv, [&] { return run(options, program, app.remaining()); });
}
