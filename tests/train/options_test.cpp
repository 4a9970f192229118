#include "train/options.h"

#include <pty.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <limits>

#include "tests/support.h"
#include "train/progress.h"

namespace ember {
namespace {

TrainOptions parse(std::vector<std::string> flags) {
  CLI::App app;
  TrainOptions options;
  add_options(app, options);
  flags.insert(flags.begin(), {"--model", "m", "--data", "d", "--out", "o"});
  std::reverse(flags.begin(), flags.end());  // as CLI11 wants a vector
  app.parse(flags);
  return options;
}

// The message of the Error that validating `flags` gives; empty when there is none.
std::string complaint(const std::vector<std::string>& flags) {
  return testing::error_of([&] {
    const TrainOptions options = parse(flags);
    validate(options);
    std::string note;
    make_kernels(options, note);
  });
}

std::map<std::string, std::string> identity_of(const std::vector<std::string>& flags) {
  static const std::unique_ptr<Kernels> kernels = make_cpu_kernels();
  return identity(parse(flags), *kernels);
}

TEST(Options, DefaultsAreTheReferenceRecipe) {
  const Recipe recipe = parse({}).recipe;
  EXPECT_EQ(recipe.epochs, 4);
  EXPECT_EQ(recipe.batch_size, 16);
  EXPECT_EQ(recipe.learning_rate, 2e-5);
  EXPECT_EQ(recipe.weight_decay, 0.01);
  EXPECT_EQ(recipe.warmup_ratio, 0);
  EXPECT_FALSE(recipe.max_length);  // 128 where the model has as many positions
  EXPECT_EQ(recipe.threshold, 0.5);
  EXPECT_EQ(recipe.seed, 42u);
  EXPECT_EQ(complaint({}), "");
  EXPECT_EQ(identity_of({}), identity_of({"--preset", "reference"}));
}

TEST(Options, OverrideThePresetWhereverItStands) {
  EXPECT_EQ(parse({"--epochs", "2", "--preset", "reference"}).recipe.epochs, 2);
  EXPECT_EQ(parse({"--preset", "reference", "--epochs", "2"}).recipe.epochs, 2);
}

TEST(Options, NeitherTheOptimizerNorTheGraphMakesAnotherRun) {
  EXPECT_TRUE(parse({}).graph);
  EXPECT_FALSE(parse({"--no-graph"}).graph);
  EXPECT_EQ(identity_of({"--optimizer", "dense", "--no-graph"}), identity_of({}));
  EXPECT_EQ(complaint({"--optimizer", "dense"}), "");
  EXPECT_EQ(complaint({"--optimizer", "fast"}), "--optimizer fast: must be lazy or dense");
}

TEST(Options, AreTaken) {
  const TrainOptions options = parse({"--eval-every", "7", "--save-every", "epoch", "--metric", "loss", "--keep", "1",
                                      "--early-stopping", "3", "--seed", "18446744073709551615"});
  EXPECT_EQ(options.evaluate.steps, 7);
  EXPECT_EQ(options.save.steps, 0);
  EXPECT_EQ(options.recipe.metric, Metric::loss);
  EXPECT_EQ(options.keep, 1);
  EXPECT_EQ(options.early_stopping, 3);
  EXPECT_EQ(options.recipe.seed, std::numeric_limits<std::uint64_t>::max());
}

TEST(Options, AreTakenForWhatTheyAreCalled) {
  const TrainOptions usual = parse({});
  EXPECT_EQ(usual.model, "m");
  EXPECT_EQ(usual.data, "d");
  EXPECT_EQ(usual.out, "o");
  EXPECT_EQ(usual.keep, 2);
  EXPECT_EQ(usual.threads, 0);
  EXPECT_EQ(parse({"--save-every", "7"}).save.steps, 7);
  EXPECT_EQ(parse({"--save-every", "7"}).evaluate.steps, 0);
  EXPECT_EQ(parse({"--metric", "f1_macro"}).recipe.metric, Metric::f1_macro);
  EXPECT_EQ(parse({"--weight-decay", "0.5"}).recipe.weight_decay, 0.5);
  EXPECT_EQ(parse({"--warmup-ratio", "0.25"}).recipe.warmup_ratio, 0.25);
  EXPECT_EQ(parse({"--threshold", "0.75"}).recipe.threshold, 0.75);
  EXPECT_EQ(parse({"--max-steps", "9"}).max_steps, 9);
  EXPECT_EQ(parse({"--threads", "3"}).threads, 3);
  EXPECT_EQ(parse({"--device", "cpu"}).device, "cpu");
  EXPECT_EQ(parse({"--precision", "bf16"}).precision, "bf16");
  EXPECT_EQ(parse({"--optimizer", "dense"}).optimizer, "dense");
  const auto set_by = [](const char* flag) {
    const TrainOptions o = parse({flag});
    return std::vector<bool>{o.resume, o.overwrite, o.new_classifier, o.from_scratch, o.skip_bad_rows, o.quiet};
  };
  const char* flags[] = {"--resume", "--overwrite", "--new-classifier", "--from-scratch", "--skip-bad-rows", "--quiet"};
  for (std::size_t i = 0; i < std::size(flags); ++i) {
    std::vector<bool> expected(std::size(flags));
    expected[i] = true;
    EXPECT_EQ(set_by(flags[i]), expected) << flags[i];
  }
}

TEST(Options, RefuseBadValuesByName) {
  const std::vector<std::vector<std::string>> bad = {
      {"--batch-size", "0"},
      {"--batch-size", "-3"},
      {"--batch-size", "2147483648"},
      {"--epochs", "0"},
      {"--lr", "nan"},
      {"--lr", "0"},
      {"--lr", "1e-46"},
      {"--lr", "-1"},
      {"--lr", "inf"},
      {"--lr", "1e39"},
      {"--weight-decay", "-0.1"},
      {"--weight-decay", "1e39"},
      {"--weight-decay", "nan"},
      {"--warmup-ratio", "2"},
      {"--warmup-ratio", "nan"},
      {"--max-length", "1"},
      {"--threshold", "1.5"},
      {"--threshold", "nan"},
      {"--keep", "0"},
      {"--threads", "-1"},
      {"--threads", "4097"},
      {"--eval-every", "0"},
      {"--eval-every", "1.5"},
      {"--eval-every", "2147483648"},
      {"--save-every", "never"},
      {"--metric", "accuracy"},
      {"--preset", "best"},
      {"--device", "tpu"},
      {"--device", "cuda:x"},
      {"--device", "cuda:"},
      {"--precision", "int8"},
      {"--precision", "half"},
      {"--max-steps", "-1"},
      {"--seed", "-1"},
      {"--seed", "1.5"},
      {"--seed", "18446744073709551616"},
      {"--early-stopping", "-1"},
  };
  for (const auto& flags : bad) {
    const std::string message = complaint(flags);
    EXPECT_NE(message.find(flags[0]), std::string::npos) << flags[0] << " " << flags[1] << ": " << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  }
  EXPECT_NE(complaint({"--resume", "--overwrite"}), "");
  EXPECT_NE(complaint({"--from-scratch", "--new-classifier"}), "");
}

TEST(Options, SayWhatTheDeviceLacks) {
#ifdef EMBER_WITH_CUDA
  EXPECT_EQ(complaint({"--device", "cuda", "--precision", "fp32"}),
            "--precision fp32: a GPU trains in fp16; use auto, fp16, or --device cpu");
  if (std::string fault; !cuda_device_present(fault)) {
    EXPECT_NE(complaint({"--device", "cuda"}), "");
  }
  EXPECT_NE(complaint({"--device", "cuda:9999"}), "");
#else
  for (const char* device : {"cuda", "cuda:0", "cuda:12"})
    EXPECT_NE(complaint({"--device", device}).find("no CUDA backend"), std::string::npos) << device;
#endif
  EXPECT_EQ(complaint({"--device", "cpu", "--precision", "fp16"}),
            "--precision fp16: the CPU does not compute in fp16; use fp32 or bf16");
  for (const char* device : {"auto", "cpu"})
    EXPECT_EQ(complaint({"--device", device, "--precision", "int8"}),
              "--precision int8: is for predict and evaluate alone; train with auto, fp32, bf16 or fp16");
  EXPECT_NE(complaint({"--device", "cuda", "--precision", "int8"}), "");
  EXPECT_EQ(complaint({"--device", "cpu", "--precision", "fp32"}), "");
}

TEST(Options, IdentityIsWhatDecidesTheBits) {
  const auto usual = identity_of({});
  for (const std::vector<std::string>& flags :
       std::vector<std::vector<std::string>>{{"--keep", "5"}, {"--save-every", "3"}, {"--threads", "1"}, {"--quiet"}})
    EXPECT_EQ(identity_of(flags), usual) << flags[0];
  for (const std::vector<std::string>& flags : std::vector<std::vector<std::string>>{{"--lr", "1e-5"},
                                                                                     {"--lr", "2.00001e-5"},
                                                                                     {"--batch-size", "8"},
                                                                                     {"--epochs", "5"},
                                                                                     {"--eval-every", "3"},
                                                                                     {"--seed", "1"},
                                                                                     {"--max-steps", "9"},
                                                                                     {"--metric", "loss"},
                                                                                     {"--threshold", "0.4"},
                                                                                     {"--warmup-ratio", "0.1"},
                                                                                     {"--weight-decay", "0.1"},
                                                                                     {"--max-length", "64"},
                                                                                     {"--early-stopping", "2"}})
    EXPECT_NE(identity_of(flags), usual) << flags[0];
}

// A run is resumed only where all of these are the same; whatever else a flag says may change.
TEST(Options, IdentityHasTheseKeys) {
  const std::map<std::string, std::string> usual = {
      {"--epochs", "4"},        {"--batch-size", "16"},      {"--lr", "2e-05"},      {"--weight-decay", "0.01"},
      {"--warmup-ratio", "0"},  {"--max-length", "default"}, {"--threshold", "0.5"}, {"--seed", "42"},
      {"--metric", "f1_micro"}, {"--early-stopping", "0"},   {"--max-steps", "0"},   {"--eval-every", "epoch"},
      {"--device", "cpu"},      {"--precision", "fp32"}};
  EXPECT_EQ(identity_of({}), usual);
  // Device and precision are those of the backend, whatever was asked for.
  EXPECT_EQ(identity_of({"--device", "auto", "--precision", "bf16"}), usual);
  EXPECT_EQ(identity_of({"--batch-size", "8"}).at("--batch-size"), "8");
  EXPECT_EQ(identity_of({"--max-length", "64"}).at("--max-length"), "64");
}

TEST(Options, IdentityTellsPrecisionsApart) {
  std::unique_ptr<Kernels> kernels;
  EMBER_NEEDS(kernels = make_cpu_kernels(Precision::bf16, 1));
  std::map<std::string, std::string> expected = identity_of({});
  expected["--precision"] = "bf16";
  EXPECT_EQ(identity(parse({}), *kernels), expected);
}

std::string drawn(Progress::Style style, const std::vector<ProgressReport>& reports, const char* note = "a note") {
  char* text = nullptr;
  std::size_t size = 0;
  std::FILE* file = open_memstream(&text, &size);
  {
    Progress progress(style, file);
    for (const ProgressReport& report : reports) progress.update(report);
    if (note != nullptr) progress.note(note);
  }
  std::fclose(file);
  std::string result(text, size);
  std::free(text);
  return result;
}

const ProgressReport kReport{.epoch = 1,
                             .epochs = 4,
                             .step = 100,
                             .steps = 10856,
                             .loss = 0.15126,
                             .learning_rate = 1.98e-5,
                             .examples_per_second = 520.4,
                             .seconds_left = 3723};

TEST(Progress, LinesAppearEveryHundredSteps) {
  ProgressReport odd = kReport, last = kReport;
  odd.step = 101, last.step = last.steps, last.seconds_left = 0;
  EXPECT_EQ(drawn(Progress::Style::lines, {kReport, odd, last}),
            "epoch 1/4  step 100/10856  loss 0.1513  lr 1.98e-05  520 examples/s  left 1:02:03\n"
            "epoch 1/4  step 10856/10856  loss 0.1513  lr 1.98e-05  520 examples/s  left 0:00\n"
            "a note\n");
}

TEST(Progress, BarIsRedrawnInPlace) {
  const std::string text = drawn(Progress::Style::bar, {kReport, kReport});
  EXPECT_EQ(text.find('\n'), text.size() - 1);                          // only the note ends a line
  EXPECT_EQ(std::count(text.begin(), text.end(), '['), 1 + 2) << text;  // drawn once, erased twice
  // The time left is there on 80 columns, and the line does not wrap.
  const std::size_t end = text.find("left 1:02:03\x1b[K");
  ASSERT_NE(end, std::string::npos) << text;
  EXPECT_LE(end + 12, 80u);
  ProgressReport last = kReport;
  last.step = last.steps;
  EXPECT_CONTAINS(drawn(Progress::Style::bar, {kReport, last}), "step 10856/10856");  // however soon it comes
}

TEST(Progress, TheTimeLeftIsInSecondsMinutesAndHours) {
  for (const auto& [seconds, expected] : std::vector<std::pair<double, std::string>>{{-1, "0:00"},
                                                                                     {std::nan(""), "0:00"},
                                                                                     {INFINITY, "0:00"},
                                                                                     {59.6, "1:00"},
                                                                                     {61, "1:01"},
                                                                                     {3599, "59:59"},
                                                                                     {3600, "1:00:00"},
                                                                                     {36061, "10:01:01"}}) {
    ProgressReport report = kReport;
    report.seconds_left = seconds;
    EXPECT_CONTAINS(drawn(Progress::Style::lines, {report}), "left " + expected + "\n");
  }
}

// What update() draws on a terminal of so many columns, without what begins and ends it.
std::string bar_on(unsigned short columns, const ProgressReport& report) {
  const winsize size{24, columns, 0, 0};
  int terminal = -1, end = -1;
  if (openpty(&terminal, &end, nullptr, nullptr, &size) != 0) return "no terminal";
  std::FILE* file = fdopen(end, "w");
  char text[1000];
  ssize_t got = 0;
  {
    Progress progress(Progress::Style::bar, file);
    progress.update(report);
    got = read(terminal, text, sizeof text);
  }
  std::fclose(file);
  close(terminal);
  const std::string line(text, static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
  return line.starts_with('\r') && line.ends_with("\x1b[K") ? line.substr(1, line.size() - 4) : "drawn: " + line;
}

TEST(Progress, TheBarHasWhatTheFiguresLeaveOfTheLine) {
  ProgressReport half = kReport;
  half.epoch = 2, half.step = half.steps / 2;
  const std::string figures = "epoch 2/4 step 5428/10856 loss 0.1513 lr 1.98e-05 520 ex/s left 1:02:03";
  ASSERT_EQ(figures.size(), 71u);
  EXPECT_EQ(bar_on(200, half), "[============            ] " + figures) << "no wider where there is more room";
  EXPECT_EQ(bar_on(80, half), "[==   ] " + figures) << "the last column would wrap";
  EXPECT_EQ(bar_on(79, half), "[==  ] " + figures);
  EXPECT_EQ(bar_on(78, half), figures) << "too little for a bar";
  EXPECT_EQ(bar_on(72, half), figures);
  EXPECT_EQ(bar_on(60, half), figures.substr(0, 59));
}

// Of a run that ends with an error, too, whose message is to stand on a line of its own.
TEST(Progress, LeavesNoBarBehind) {
  EXPECT_TRUE(drawn(Progress::Style::bar, {kReport}, nullptr).ends_with("\x1b[K\r\x1b[K"));
}

TEST(Progress, SilentSaysNothing) {
  EXPECT_EQ(drawn(Progress::Style::silent, {kReport}), "");
}

}  // namespace
}  // namespace ember
