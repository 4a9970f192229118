// bench_step: a whole training step by batch size and length, and texts to scores. docs/bench.md says how to read it.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "bench/inference.h"
#include "bench/machine.h"
#include "bench/results_file.h"
#include "bench/shapes.h"
#include "bench/step_report.h"
#include "bench/training_step.h"
#include "runtime/program.h"
#include "runtime/shares.h"

namespace {

constexpr std::int64_t kFixedLength = 128;
constexpr std::int64_t kTexts = 1000;  // at once
constexpr std::int64_t kBatchesReady = 16;

struct Options {
  std::string device = "auto", part = "both", precision = "fp32", out;
  int threads = 0;
  ember::StepSource source;
  std::vector<std::int64_t> batches{1, 2, 4, 8, 16, 32, 64, 128, 256, 512};
  std::int64_t most_tokens = 10240;
  ember::StepBudget budget;
  std::vector<double> paper;
};

void add_options(CLI::App& app, Options& options) {
  app.option_defaults()->always_capture_default();
  app.add_option("--device", options.device, "auto (all there are), cpu, cpu-bf16, cuda or cuda:N");
  app.add_option("--threads", options.threads, "threads of the CPU; 0: all, or as many as a container may use");
  app.add_option("--part", options.part, "training, inference or both");
  app.add_option("--precision", options.precision, "of inference: fp32, bf16 or int8")
      ->check(CLI::IsMember({"fp32", "bf16", "int8"}));
  CLI::Option* shape =
      app.add_option("--shape", options.source.shape, "tinybert, minilm or bert-base, with random weights");
  app.add_option("--model", options.source.model, "a model folder instead; without weights they are drawn")
      ->excludes(shape);
  app.add_option("--data", options.source.data, "a data folder, for its lengths and texts; needs --model");
  app.add_option("--batches", options.batches, "batch sizes of training")->delimiter(',');
  app.add_option("--most-tokens", options.most_tokens, "batches of training with more tokens are left out");
  app.add_option("--repetitions", options.budget.repetitions, "of each measurement");
  app.add_option("--seconds", options.budget.seconds, "time of a repetition");
  app.add_flag("!--no-graph", options.budget.record,
               "on a GPU: time every launch by itself, as train does with the same flag");
  app.add_option("--out", options.out, "file for the results, as JSON");
  CLI::Option* paper = app.add_option("--paper", options.paper,
                                      "GB/s,TFLOP/s: measures nothing; the floor of an fp16 step on such a device")
                           ->delimiter(',')
                           ->expected(2);
  for (const char* of_measuring :
       {"--device", "--threads", "--part", "--precision", "--repetitions", "--seconds", "--no-graph", "--out"})
    paper->excludes(app.get_option(of_measuring));
}

// Flags of the part that is not measured; with the default's own value, too, it is a mistake.
void check_part(const CLI::App& app, const Options& options) {
  const bool training = options.part == "training", inference = options.part == "inference";
  for (const char* flag : {"--batches", "--most-tokens", "--no-graph"})
    ember::check(!inference || app.count(flag) == 0, "{}: is of training, but --part is inference", flag);
  ember::check(!training || app.count("--precision") == 0, "--precision: is of inference, but --part is training");
  ember::check(!inference || options.device == "auto" || options.device == "cpu",
               "--device {}: is of training, but --part is inference, which the CPU does, in --precision",
               ember::printable(options.device));
}

void validate(const Options& options) {
  ember::check(options.part == "both" || options.part == "training" || options.part == "inference",
               "--part {}: must be training, inference or both", ember::printable(options.part));
  ember::check_threads(options.threads);
  ember::check(options.budget.repetitions >= 1 && options.budget.repetitions <= 1000,
               "--repetitions {}: must be a whole number from 1 to 1000", options.budget.repetitions);
  ember::check(options.budget.seconds > 0 && options.budget.seconds <= 600,
               "--seconds {}: must be above 0 and at most 600", options.budget.seconds);
  ember::check(options.most_tokens >= 1, "--most-tokens {}: must be a whole number from 1 on", options.most_tokens);
  for (const double peak : options.paper)
    ember::check(peak > 0 && std::isfinite(peak), "--paper {}: must be two numbers above 0", peak);
  for (const std::int64_t batch : options.batches)
    ember::check(batch >= 1 && batch <= 65536, "--batches {}: must be whole numbers from 1 to 65536", batch);
}

// Where results go: standard output, and the file of --out.
class Output {
 public:
  Output(const Options& options, const std::string& context) {
    if (!options.out.empty()) file_.emplace(options.out, context);
  }
  void say(const std::string& text) const { ember::print(text); }
  void keep(const std::string& json) {
    if (file_ && !json.empty()) file_->add(json);
  }

 private:
  std::optional<ember::ResultsFile> file_;
};

// Every batch size with the texts that `texts_of` gives for a number of texts.
template <typename TextsOf>
void measure_lengths(ember::TrainingStep& step, const std::string& backend, const std::string& lengths,
                     const Options& options, const TextsOf& texts_of, Output& output) {
  const char* how = !step.records() ? "" : options.budget.record ? ", steps as graphs" : ", steps call by call";
  output.say(fmt::format("\n{}, {}{}\n{}", backend, lengths, how, ember::training_head()));
  std::vector<ember::StepResult> results;
  for (const std::int64_t batch : options.batches) {
    const ember::Dataset texts = texts_of(batch * kBatchesReady);
    if (texts.offsets[static_cast<std::size_t>(batch)] > options.most_tokens) {
      output.say(fmt::format("{:>6} {:>8} left out: more than --most-tokens {}\n", batch,
                             texts.offsets[static_cast<std::size_t>(batch)], options.most_tokens));
      continue;
    }
    results.push_back(step.measure(texts, batch, options.budget));
    output.say(ember::training_line(results.back()));
    output.keep(ember::as_json(results.back(), backend, lengths));
  }
  output.say(ember::training_growth(results));
  output.keep(ember::growth_json(results, backend, lengths));
}

void measure_training(ember::Backend& backend, const ember::StepInputs& inputs, const Options& options,
                      Output& output) {
  const ember::Peaks peaks = ember::measure_peaks(backend, options.budget.repetitions);
  output.say(fmt::format("\n{}: {:.1f} GB/s copied, {:.1f} GFLOP/s in a large product\n", backend.name(),
                         peaks.bytes_per_second * 1e-9, peaks.flop_per_second * 1e-9));
  ember::TrainingStep step(backend, inputs.config(), peaks);
  measure_lengths(
      step, backend.name(), inputs.real_lengths(), options, [&](std::int64_t texts) { return inputs.real(texts); },
      output);
  const std::int64_t length = std::min(kFixedLength, inputs.config().positions);
  measure_lengths(
      step, backend.name(), fmt::format("{} tokens each", length), options,
      [&](std::int64_t texts) { return inputs.fixed(texts, length); }, output);
}

void measure_inference(ember::StepInputs& inputs, const Options& options, Output& output) {
  const std::filesystem::path& folder = inputs.classifier_folder();
  ember::reset_peak_host_memory();
  ember::Classifier classifier(folder,
                               {.threads = options.threads, .precision = ember::precision_named(options.precision)});
  const std::string backend = options.precision == "fp32" ? "cpu" : "cpu-" + options.precision;
  output.say(fmt::format("\n{}, texts to scores, tokenisation included\n{}", backend, ember::inference_head()));
  std::vector<ember::InferenceResult> results;
  const auto report = [&](ember::InferenceResult result) {
    output.say(ember::inference_line(result));
    output.keep(ember::as_json(result, backend));
    results.push_back(std::move(result));
  };
  const auto time = [&](const std::vector<std::string>& texts) {
    return ember::time_predictions(classifier, texts, options.budget.repetitions, options.budget.seconds);
  };
  for (const std::int64_t tokens : {8, 20, 32, 64, 128}) {
    if (tokens > inputs.config().positions) continue;
    ember::InferenceResult result = time({inputs.text(tokens, tokens)});
    result.texts = fmt::format("one of {} tokens", tokens);
    result.tokens = static_cast<double>(tokens);
    report(std::move(result));
  }
  const std::vector<std::string> many = inputs.texts(kTexts);
  ember::InferenceResult result = time(many);
  result.texts = fmt::format("{} at once", many.size());
  report(std::move(result));
  output.say(ember::inference_growth(results));
  output.say(fmt::format("memory: {:.0f} MB\n", static_cast<double>(ember::peak_host_memory()) * 1e-6));
  output.keep(fmt::format(R"({{"kind":"inference memory","backend":"{}","peak_memory_bytes":{}}})", backend,
                          ember::peak_host_memory()));
}

// Per batch size, what the operations of a step move and compute, and the time that would take.
void print_floors(const Options& options) {
  const ember::StepInputs inputs(options.source);
  const ember::Peaks peaks{options.paper[0] * 1e9, options.paper[1] * 1e12};
  for (const std::int64_t batch : options.batches) {
    const ember::BatchSize size = ember::size_of_batch(inputs.real(batch), 0, batch);
    if (size.tokens > static_cast<double>(options.most_tokens)) {
      ember::print(fmt::format("\nbatch of {}, {:.0f} tokens, left out: more than --most-tokens {}\n", batch,
                               size.tokens, options.most_tokens));
      continue;
    }
    const ember::StepTypes types{ember::DType::f16, ember::DType::f16};
    ember::print(ember::floor_table(ember::step_work(inputs.config(), size, types), size, peaks));
  }
}

int run(const CLI::App& app, const Options& options) {
  validate(options);
  check_part(app, options);
  if (!options.paper.empty()) {
    print_floors(options);
    return 0;
  }
  std::vector<std::string> absent;
  std::vector<std::unique_ptr<ember::Backend>> backends;  // of training; inference makes its own
  if (options.part != "inference")
    backends = ember::make_backends(ember::Job::training, options.device, options.threads, absent);
  ember::StepInputs inputs(options.source);
  nlohmann::ordered_json context = nlohmann::ordered_json::parse(ember::machine_json());
  context["program"] = "bench_step";
  context["model"] =
      options.source.model.empty() ? options.source.shape : ember::printable(options.source.model.string(), 4096);
  context["graph"] = options.budget.record;
  for (const auto& backend : backends) context["devices"][backend->name()] = backend->device_name();
  Output output(options, context.dump());
  ember::print_absent(absent);
  for (const auto& backend : backends) measure_training(*backend, inputs, options, output);
  if (options.part != "training") measure_inference(inputs, options, output);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  ember::steady_threads(argv);
  CLI::App app("Measures a whole training step by batch size and length, and texts to scores.");
  Options options;
  add_options(app, options);
  return ember::run_program(app, argc, argv, [&] { return run(app, options); });
}
