// train: fine-tunes a BERT encoder into a multi-label classifier.
#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>

#include "runtime/program.h"
#include "train/trainer.h"

namespace {

volatile std::sig_atomic_t stop_signal = 0;

// The first signal asks the run to stop after its step, the second one kills.
extern "C" void request_stop(int signal) {
  stop_signal = signal;
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
}

int run(const ember::TrainOptions& options) {
  std::signal(SIGINT, request_stop);
  std::signal(SIGTERM, request_stop);
  std::signal(SIGXFSZ, SIG_IGN);  // a limit on the size of files is an error of the write that meets it
  const auto style = ember::Progress::style_for_stderr(options.quiet);
  const ember::TrainOutcome outcome = ember::train(options, style, [] { return static_cast<int>(stop_signal); });
  const std::string out = options.out.string();
  if (outcome.interrupted != 0) {
    fmt::print(stderr, "stopped after step {}, saved in {}; the same command with --resume continues\n",
               outcome.state.step, outcome.checkpoint.string());
    return 128 + outcome.interrupted;
  }
  if (options.quiet) return 0;
  const ember::DevResult& best = outcome.state.best;
  fmt::print(
      "best on dev: epoch {:.2f} (step {})  loss {:.5f}  f1_micro {:.4f}  f1_macro {:.4f}  subset accuracy {:.4f}\n",
      best.epoch, best.step, best.loss, best.f1_micro, best.f1_macro, best.subset_accuracy);
  if (best.f1_micro == 0)
    fmt::print("no right label reached the threshold of {} on dev: scores are low, so try a lower --threshold\n",
               options.recipe.threshold);
  fmt::print("the model is in {}; try: predict --model {} --threshold 0.25 \"I am so happy for you!\"\n", out, out);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  ember::spin_briefly(argv);
  CLI::App app("Fine-tunes a BERT encoder into a multi-label classifier of texts.");
  ember::TrainOptions options;
  ember::add_options(app, options);
  return ember::run_program(app, argc, argv, [&options] { return run(options); });
}
