// The ladders of bench/variants, rung by rung, on TinyBERT's shapes:
//   build/bench/bench_variants --benchmark_repetitions=5 --benchmark_enable_random_interleaving=true
// Names are LADDER/BACKEND/RUNG[/TOKENS[/no_dropout]], and /manual_time behind them, which is Google Benchmark's;
// --benchmark_filter=attention/cpu times one ladder. Each call finds its operands where the one before it left them, in
// the caches if they hold so much. All times are of the wall clock, from an idle device to an idle device; on CUDA for
// as many calls as make the waiting cheap, but for AdamW, whose state each call changes: one, launch and wait included.
#include <benchmark/benchmark.h>

#include <CLI/CLI.hpp>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "bench/backend.h"
#include "bench/google_benchmark.h"
#include "bench/time_call.h"
#include "bench/variants/operands.h"
#include "runtime/program.h"
#include "runtime/shares.h"
#include "runtime/spinning.h"

namespace {

using namespace ember;
using namespace ember::variants;

// A backend with its ladders and their operands.
class Suite {
 public:
  Suite(std::string name, Kernels& kernels, Ladders ladders, int calls)
      : name_(std::move(name)), kernels_(kernels), ladders_(std::move(ladders)), calls_(calls), memory_(kernels) {}
  Suite(const Suite&) = delete;  // what is registered refers to it
  Suite& operator=(const Suite&) = delete;

  void add() {
    for (const float dropout : {0.1f, 0.0f}) {
      const auto size = [dropout](std::int64_t tokens) {
        return std::to_string(tokens) + (dropout > 0 ? "" : "/no_dropout");
      };
      for (const std::int64_t rows : {308, 16324}) {
        const LayerNormCall& call = layernorms_.emplace_back(layernorm_call(memory_, rows, dropout));
        for (const auto& rung : ladders_.layernorm) add("layernorm", rung, call, size(rows));
      }
      for (const std::int64_t copies : {1, 16}) {
        const Batch& batch = batches_.emplace_back(packed_batch(memory_, copies));
        const AttentionCall& call = attentions_.emplace_back(attention_call(memory_, batch, dropout));
        for (const auto& rung : ladders_.attention) add("attention", rung, call, size(batch.tokens));
      }
    }
    for (const auto& rung : ladders_.adamw)
      add("adamw/" + name_ + "/" + rung.name, [this, &rung](benchmark::State& state) { time_training(state, rung); });
  }

 private:
  template <typename Body>
  static void add(const std::string& name, const Body& body) {
    benchmark::RegisterBenchmark(name.c_str(), body)->UseManualTime()->Unit(benchmark::kMicrosecond);
  }
  template <typename Call>
  void add(const std::string& ladder, const Rung<Call>& rung, const Call& call, const std::string& size) {
    add(ladder + "/" + name_ + "/" + rung.name + "/" + size, [this, &rung, &call](benchmark::State& state) {
      rung.run(call);  // what is allocated once is allocated here
      for (auto _ : state)
        state.SetIterationTime(seconds([&] {
                                 for (int i = 0; i < calls_; ++i) rung.run(call);
                               }) /
                               calls_);
    });
  }

  // The lazy rung is timed as it is in the middle of a training run, when rows have missed updates: up to 511, since
  // 512 batches take turns.
  void time_training(benchmark::State& state, const Rung<AdamWCall>& rung) {
    constexpr int kStepsBefore = 1000;
    auto& training_of = rung.settle ? lazy_training_ : dense_training_;
    if (training_of == nullptr) {
      training_of = std::make_unique<AdamWTraining>(kernels_);
      for (int step = 0; rung.settle && step < kStepsBefore; ++step) seconds([&] { rung.run(training_of->next()); });
    }
    AdamWTraining& training = *training_of;
    rung.run(training.next());
    for (auto _ : state) {
      const AdamWCall call = training.next();
      state.SetIterationTime(seconds([&] { rung.run(call); }));
    }
    state.counters["table_rows"] = training.rows();
  }

  template <typename Work>
  double seconds(const Work& work) const {
    ladders_.synchronize();
    return seconds_of([&] {
      work();
      ladders_.synchronize();
    });
  }

  std::string name_;
  Kernels& kernels_;
  Ladders ladders_;
  int calls_;  // between two waits
  Memory memory_;
  std::deque<LayerNormCall> layernorms_;
  std::deque<Batch> batches_;
  std::deque<AttentionCall> attentions_;
  std::unique_ptr<AdamWTraining> dense_training_, lazy_training_;
};

void run(const std::vector<std::string>& arguments) {
  const int threads = thread_count(0);
  const auto one = make_cpu_kernels(Precision::fp32, 1), all = make_cpu_kernels(Precision::fp32, threads);
  Suite cpu("cpu", *all, cpu_ladders(*one, *all, threads), 1);
  cpu.add();
  std::vector<std::string> absent;
  const std::unique_ptr<Backend> device = make_cuda_backend_if_present(absent);
#ifdef EMBER_WITH_CUDA
  std::unique_ptr<Suite> cuda;
  if (device != nullptr) {
    cuda = std::make_unique<Suite>("cuda", device->kernels(), cuda_ladders(device->kernels()), 100);
    cuda->add();
  }
#endif
  const std::string filter = checked_filter(absent);
  print_absent(absent);
  run_benchmarks(arguments, filter);
  benchmark::ClearRegisteredBenchmarks();  // they refer to the suites
}

}  // namespace

int main(int argc, char** argv) {
  ember::adapt_spinning(argv);
  CLI::App app("Times the ladders of bench/variants, rung by rung.");
  app.allow_extras();
  app.footer(
      "Google Benchmark's flags are taken, among them\n"
      "  --benchmark_filter=REGEX      only rungs like attention/cpu\n"
      "  --benchmark_repetitions=N     1 unless told\n"
      "  --benchmark_list_tests        names only\n"
      "  --benchmark_format=console    or json, csv");
  const std::string program = argv[0];
  return ember::run_program(app, argc, argv, [&] {
    ember::initialize_benchmark(program, app.remaining());
    run(app.remaining());
    return 0;
  });
}
