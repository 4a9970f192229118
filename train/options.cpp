#include "train/options.h"

#include <CLI/CLI.hpp>
#include <limits>

#include "runtime/error.h"
#include "runtime/parse_whole.h"
#include "runtime/shares.h"

namespace ember {
namespace {

constexpr std::int64_t kMostSteps = std::int64_t{1} << 31;  // the dropout stream and the row counters are 32 bits wide

Every parse_every(const std::string& flag, const std::string& text) {
  if (text == "epoch") return {};
  const auto steps = parse_whole<std::int64_t>(text);
  check(steps && *steps >= 1 && *steps < kMostSteps, "{} {}: must be `epoch` or a number of steps from 1 on", flag,
        printable(text));
  return {*steps};
}

// By hand because CLI11 takes -1 for 2^64 - 1.
std::uint64_t parse_seed(const std::string& text) {
  const auto seed = parse_whole<std::uint64_t>(text);
  check(seed.has_value(), "--seed {}: must be a whole number from 0 to 2^64 - 1", printable(text));
  return *seed;
}

Metric parse_metric(const std::string& text) {
  for (const Metric metric : {Metric::f1_micro, Metric::f1_macro, Metric::loss})
    if (text == to_string(metric)) return metric;
  fail("--metric {}: must be f1_micro, f1_macro or loss", printable(text));
}

bool is_cuda(const std::string& device) {
  constexpr std::string_view prefix = "cuda:";
  if (device == "cuda") return true;
  return device.starts_with(prefix) && device.size() > prefix.size() &&
         device.find_first_not_of("0123456789", prefix.size()) == std::string::npos;
}

void add_paths(CLI::App& app, TrainOptions& options) {
  app.add_option(
         "--model", options.model,
         "Folder to start from: config.json, vocab.txt or tokenizer.json, model.safetensors (Hugging Face's layout)")
      ->required();
  app.add_option("--data", options.data, "Folder with labels.txt and train and dev as .tsv, .jsonl or .csv (.gz)")
      ->required();
  app.add_option("--out", options.out, "Folder to write the best model, metrics.jsonl and checkpoints into")
      ->required();
}

void add_recipe(CLI::App& app, Recipe& recipe) {
  // Callbacks run in the order in which the options are declared, so flags after this one override the preset.
  app.add_option_function<std::string>(
         "--preset", [&recipe](const std::string& name) { recipe = preset(name); },
         "Recipe to start from, which the other flags change: reference (the default), the only one")
      ->type_name("NAME");
  app.add_option("--epochs", recipe.epochs, "Passes over the training data")->capture_default_str();
  app.add_option("--batch-size", recipe.batch_size, "Texts per step")->capture_default_str();
  app.add_option("--lr", recipe.learning_rate, "Peak learning rate")->capture_default_str();
  app.add_option("--weight-decay", recipe.weight_decay, "Decoupled weight decay")->capture_default_str();
  app.add_option("--warmup-ratio", recipe.warmup_ratio, "Share of the steps over which the learning rate rises")
      ->capture_default_str();
  app.add_option("--max-length", recipe.max_length,
                 "Tokens of a text that count, [CLS] and [SEP] included (128, or the model's positions if fewer)");
  app.add_option("--threshold", recipe.threshold, "Probability from which a label counts as predicted on dev")
      ->capture_default_str();
  app.add_option_function<std::string>(
         "--seed", [&recipe](const std::string& text) { recipe.seed = parse_seed(text); },
         "Seed of the new weights, the order of the data and dropout (42)")
      ->type_name("UINT");
  app.add_option_function<std::string>(
         "--metric", [&recipe](const std::string& text) { recipe.metric = parse_metric(text); },
         "What the best model is best in on dev: f1_micro (the default), f1_macro or loss; of equals the one with less "
         "loss")
      ->type_name("NAME");
}

void add_run(CLI::App& app, TrainOptions& options) {
  app.add_option("--early-stopping", options.early_stopping,
                 "Stop after this many evaluations without improvement; 0: never");
  app.add_option("--max-steps", options.max_steps,
                 "Stop after this many steps, if the epochs have more; the learning rate reaches 0 there; 0: never");
  const auto every = [&app](const std::string& flag, Every& target, const char* help) {
    app.add_option_function<std::string>(
           flag, [flag, &target](const std::string& text) { target = parse_every(flag, text); }, help)
        ->type_name("epoch|N");
  };
  every("--eval-every", options.evaluate, "Evaluate on dev at the end of each epoch (the default) or every N steps");
  every("--save-every", options.save, "Save a checkpoint at the end of each epoch (the default) or every N steps");
  app.add_option("--keep", options.keep, "Checkpoints to keep")->capture_default_str();
  app.add_option("--device", options.device,
                 "auto (a GPU, if there is one and --precision allows), cpu, cuda or cuda:N")
      ->capture_default_str();
  app.add_option("--precision", options.precision,
                 "auto (fp16 on a GPU, which has no other; fp32 on the CPU), fp32, bf16 or fp16")
      ->capture_default_str();
  app.add_option("--threads", options.threads, "Threads of the CPU; 0: all, or as many as a container may use")
      ->capture_default_str();
  app.add_option("--optimizer", options.optimizer,
                 "lazy or dense: whether rows of the word embedding are updated when they are next read or at every "
                 "step; the results are the same")
      ->capture_default_str();
  app.add_flag("!--no-graph", options.graph, "On a GPU: launch every kernel by itself; the results are the same");
  app.add_flag("--resume", options.resume, "Continue from the newest checkpoint in --out");
  app.add_flag("--overwrite", options.overwrite, "Discard the run or the model that --out holds and start afresh");
  app.add_flag("--new-classifier", options.new_classifier,
               "Draw a new classifier, whatever labels the model's is into; without, it must be into the data's");
  app.add_flag("--from-scratch", options.from_scratch, "Draw all weights; model.safetensors is not read");
  app.add_flag("--skip-bad-rows", options.skip_bad_rows, "Count malformed rows and go on");
  app.add_flag("--quiet", options.quiet, "Print nothing but errors");
}

}  // namespace

std::string to_string(Metric metric) {
  switch (metric) {
    case Metric::f1_micro:
      return "f1_micro";
    case Metric::f1_macro:
      return "f1_macro";
    case Metric::loss:
      return "loss";
  }
  throw std::logic_error("no such metric");
}

std::string to_string(Every every) {
  return every.steps == 0 ? "epoch" : std::to_string(every.steps);
}

Recipe preset(const std::string& name) {
  check(name == "reference", "--preset {}: there is no such preset, only `reference`", printable(name));
  return {};
}

void add_options(CLI::App& app, TrainOptions& options) {
  add_paths(app, options);
  add_recipe(app, options.recipe);
  add_run(app, options);
}

void validate(const TrainOptions& options) {
  const Recipe& recipe = options.recipe;
  const auto whole = [](const char* flag, std::int64_t value, std::int64_t least) {
    check(value >= least && value < kMostSteps, "{} {}: must be a whole number from {} to {}", flag, value, least,
          kMostSteps - 1);
  };
  const auto between = [](const char* flag, double value, double low, double high) {
    check(value >= low && value <= high, "{} {}: must be a number from {} to {}", flag, value, low, high);
  };
  whole("--epochs", recipe.epochs, 1);
  whole("--batch-size", recipe.batch_size, 1);
  constexpr float kMost = std::numeric_limits<float>::max();
  check(static_cast<float>(recipe.learning_rate) > 0 && recipe.learning_rate <= kMost,
        "--lr {}: must be a number above 0, of a float's size", recipe.learning_rate);
  check(recipe.weight_decay >= 0 && recipe.weight_decay <= kMost,
        "--weight-decay {}: must be a number from 0 on, of a float's size", recipe.weight_decay);
  between("--warmup-ratio", recipe.warmup_ratio, 0, 1);
  if (recipe.max_length) whole("--max-length", *recipe.max_length, 2);
  between("--threshold", recipe.threshold, 0, 1);
  whole("--early-stopping", options.early_stopping, 0);
  whole("--max-steps", options.max_steps, 0);
  whole("--keep", options.keep, 1);
  check_threads(options.threads);
  check(options.optimizer == "lazy" || options.optimizer == "dense", "--optimizer {}: must be lazy or dense",
        printable(options.optimizer));
  check(!options.resume || !options.overwrite, "--resume and --overwrite: give one of them");
  check(!options.from_scratch || !options.new_classifier,
        "--from-scratch and --new-classifier: give one of them; the first draws the classifier, too");
}

std::unique_ptr<Kernels> make_kernels(const TrainOptions& options, std::string& note) {
  const std::string &device = options.device, &precision = options.precision;
  check(device == "auto" || device == "cpu" || is_cuda(device), "--device {}: must be auto, cpu, cuda or cuda:N",
        printable(device));
  check(precision != "int8",
        "--precision int8: is for predict and evaluate alone; train with auto, fp32, bf16 or fp16");
  std::string fault;
#ifdef EMBER_WITH_CUDA
  const bool for_any = precision == "auto" || precision == "fp16";
  if (is_cuda(device) || (device == "auto" && for_any && cuda_device_present(fault))) {
    check(for_any, "--precision {}: a GPU trains in fp16; use auto, fp16, or --device cpu", printable(precision));
    return make_cuda_kernels(device == "auto" ? "cuda" : device);
  }
#else
  check(!is_cuda(device), "--device {}: this build has no CUDA backend; use --device cpu", device);
#endif
  check(precision != "fp16", "--precision fp16: the CPU does not compute in fp16{}; use fp32 or bf16",
        fault.empty() ? "" : ", and " + fault);
  note = fault.empty() ? "" : "--device auto takes the CPU: " + fault;
  check(precision == "auto" || precision == "fp32" || precision == "bf16",
        "--precision {}: must be auto, fp32, bf16 or fp16", printable(precision));
  return make_cpu_kernels(precision == "bf16" ? Precision::bf16 : Precision::fp32, options.threads);
}

std::map<std::string, std::string> identity(const TrainOptions& options, const Kernels& kernels) {
  const bool fp16 = kernels.activation_type() == DType::f16, bf16 = kernels.product_type() == DType::bf16;
  const Recipe& recipe = options.recipe;
  return {
      {"--epochs", std::to_string(recipe.epochs)},
      {"--batch-size", std::to_string(recipe.batch_size)},
      {"--lr", fmt::format("{}", recipe.learning_rate)},
      {"--weight-decay", fmt::format("{}", recipe.weight_decay)},
      {"--warmup-ratio", fmt::format("{}", recipe.warmup_ratio)},
      {"--max-length", recipe.max_length ? std::to_string(*recipe.max_length) : "default"},
      {"--threshold", fmt::format("{}", recipe.threshold)},
      {"--seed", std::to_string(recipe.seed)},
      {"--metric", to_string(recipe.metric)},
      {"--early-stopping", std::to_string(options.early_stopping)},
      {"--max-steps", std::to_string(options.max_steps)},
      {"--eval-every", to_string(options.evaluate)},
      {"--device", kernels.on_host() ? "cpu" : "cuda"},
      {"--precision", fp16   ? "fp16"
                      : bf16 ? "bf16"
                             : "fp32"},
  };
}

}  // namespace ember
