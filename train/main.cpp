// train: fine-tunes a BERT encoder into a multi-label classifier.
#include <pthread.h>
#include <signal.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>

#include "runtime/error.h"
#include "runtime/program.h"
#include "runtime/spinning.h"
#include "train/trainer.h"

namespace {

// The signal that asked the run to stop; until the run asks for it the first time, kReading if there was none.
constexpr int kReading = -1;
std::atomic<int> stop_signal = kReading;

int stop_requested() {
  int reading = kReading;
  stop_signal.compare_exchange_strong(reading, 0);
  return stop_signal;
}

// For the thread that waits for signals and, if the run asks at that very moment, for the run's: the line comes once.
[[noreturn]] void stop_before_writing(int signal) {
  static std::mutex ending;
  ending.lock();
  std::fputs("stopped before training began; nothing was written\n", stderr);
  std::_Exit(128 + signal);
}

// What comes within this time of the first signal is the same request: `timeout` signals a process, then its group.
constexpr std::chrono::seconds kOneRequest(1);

// The first SIGINT or SIGTERM asks the run to stop after its step, a second request kills. While the run still reads it
// is ended at once, since it may wait for the other end of a pipe and never ask. A thread of its own waits for them and
// no other takes them, instead of a handler: that would run on the stack of the thread that it interrupts, and oneDNN's
// sgemm lets the stack pointer point into its workspace on the heap, below which the system would then write
// (uxlfoundation/oneDNN, issue 4845, mended in 2026; Debian 12 has 2.6.3 of 2022).
void watch_signals() {
  sigset_t stops;
  sigemptyset(&stops);
  for (const int signal : {SIGINT, SIGTERM}) {
    std::signal(signal, SIG_DFL);  // one that is ignored may not arrive, and would not kill
    sigaddset(&stops, signal);
  }
  pthread_sigmask(SIG_BLOCK, &stops, nullptr);  // for the threads that are yet to come as well
  try {
    std::thread([stops] {
      int signal = 0;
      sigwait(&stops, &signal);
      const auto first = std::chrono::steady_clock::now();
      if (stop_signal.exchange(signal) == kReading) stop_before_writing(signal);
      do sigwait(&stops, &signal);
      while (std::chrono::steady_clock::now() - first < kOneRequest);
      pthread_sigmask(SIG_UNBLOCK, &stops, nullptr);
      std::raise(signal);
    }).detach();
  } catch (const std::system_error& error) {
    ember::fail("the system gives no thread to wait for Ctrl-C: {}", error.code().message());
  }
}

// As a shell takes it for one word.
std::string quoted(const std::string& word) {
  constexpr const char* kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/+-";
  if (!word.empty() && word.find_first_not_of(kPlain) == word.npos) return word;
  std::string text = "'";
  for (const char c : word) text += c == '\'' ? "'\\''" : std::string(1, c);
  return text + "'";
}

// Where predict lies: beside this program, as installed, or where the build has it.
std::string path_of_predict(const char* program) {
  const std::filesystem::path folder = std::filesystem::path(program == nullptr ? "" : program).parent_path();
  for (const char* place : {"predict", "../tools/predict"}) {
    std::error_code error;
    const std::filesystem::path path = (folder / place).lexically_normal();
    if (folder.empty() || !std::filesystem::exists(path, error)) continue;
    return path.has_parent_path() ? path.string() : "./" + path.string();
  }
  return "predict";
}

int run(const ember::TrainOptions& options, const std::string& predict) {
  watch_signals();
  const auto style = ember::Progress::style_for_stderr(options.quiet);
  const ember::TrainOutcome outcome = ember::train(options, style, stop_requested);
  if (outcome.interrupted != 0 && outcome.checkpoint.empty()) stop_before_writing(outcome.interrupted);
  const std::string out = options.out.string();
  if (outcome.interrupted != 0) {
    // What cannot be said there, to a terminal that is gone, is no failure: all is saved.
    std::fputs(
        fmt::format("stopped after step {}, saved in {}; the same command with --resume{} continues\n",
                    outcome.state.step, outcome.checkpoint.string(), options.overwrite ? " instead of --overwrite" : "")
            .c_str(),
        stderr);
    return 128 + outcome.interrupted;
  }
  if (options.quiet) return 0;
  const ember::DevResult& best = outcome.state.best;
  fmt::print(
      "best on dev: epoch {:.2f} (step {})  loss {:.5f}  f1_micro {:.4f}  f1_macro {:.4f}  subset accuracy {:.4f}\n",
      best.epoch, best.step, best.loss, best.f1_micro, best.f1_macro, best.subset_accuracy);
  if (best.f1_micro == 0)
    fmt::print("no right label reached the threshold of {} on dev; evaluate --sweep finds a better one\n",
               options.recipe.threshold);
  fmt::print("the model is in {}; try: {} --model {} \"I am so happy for you!\"\n", out, quoted(predict), quoted(out));
  const bool written = std::fflush(stdout) == 0;
  ember::check(written, "standard output: {}", ember::errno_text(errno));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  ember::adapt_spinning(argv);
  CLI::App app("Fine-tunes a BERT encoder into a multi-label classifier of texts.");
  ember::TrainOptions options;
  ember::add_options(app, options);
  return ember::run_program(app, argc, argv, [&options, argv] { return run(options, path_of_predict(argv[0])); });
}
