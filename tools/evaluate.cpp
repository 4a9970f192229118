// evaluate: how good a fine-tuned model is on a split of a data directory.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <string>

#include "data/dataset.h"
#include "data/tokenizer.h"
#include "evaluation_report.h"
#include "model/bert.h"
#include "model/fine_tuned.h"
#include "model/hugging_face.h"
#include "model_options.h"
#include "output.h"
#include "runtime/error.h"
#include "runtime/file.h"
#include "runtime/program.h"
#include "runtime/shares.h"
#include "runtime/spinning.h"
#include "train/evaluation.h"

namespace {

using namespace ember;

struct Options {
  ModelOptions model;
  std::string data, split, format = "text";
  double threshold = 0.5;
  bool sweep = false;
  bool skip_bad_rows = false;
};

void add_options(CLI::App& app, Options& options) {
  add_model_options(app, options.model);
  app.add_option("--data", options.data, "data directory: labels.txt and train, dev, test as .tsv, .jsonl or .csv[.gz]")
      ->required()
      ->type_name("DIR");
  app.add_option("--split", options.split, "train, dev or test")
      ->required()
      ->check(CLI::IsMember({"train", "dev", "test"}))
      ->type_name("NAME");
  app.add_option("--threshold", options.threshold, "a label that scores this much at least is predicted")
      ->type_name("P")
      ->capture_default_str();
  app.add_flag("--sweep", options.sweep,
               "also F1 at the thresholds 0.05, 0.10, ... 0.95, and the best by F1-micro, of equals the lowest");
  app.add_option("--format", options.format, "text or json")
      ->check(CLI::IsMember({"text", "json"}))
      ->type_name("NAME")
      ->capture_default_str();
  app.add_flag("--skip-bad-rows", options.skip_bad_rows, "count malformed rows and go on");
}

// A model without names for its labels has the data's, as for train.
void check_same_labels(const Labels& data, const Labels& model, const std::filesystem::path& file) {
  if (model.names() == anonymous_labels(data.size())) return;
  const auto name = [](const Labels& labels, std::int64_t id) {
    return id < labels.size() ? fmt::format("'{}'", printable(labels.name(id))) : "not there";
  };
  for (std::int64_t id = 0; id < std::max(data.size(), model.size()); ++id)
    check(id < data.size() && id < model.size() && data.name(id) == model.name(id),
          "{}: label {} is {}, in the model it is {} ({} labels here, {} in the model)", file.string(), id,
          name(data, id), name(model, id), data.size(), model.size());
}

Dataset tokenised(const Options& options, const LoadedModel& model, std::span<const Example> examples,
                  const std::filesystem::path& file) {
  const std::int64_t max_length = length_to_keep(options.model.max_length, model);
  Dataset dataset = tokenize(examples, Tokenizer(model.tokenizer), max_length, options.model.threads);
  if (const std::string note = note_on_cut(dataset, max_length, file); !note.empty())
    std::fprintf(stderr, "evaluate: %s\n", note.c_str());
  return dataset;
}

Evaluation score(const Options& options, const LoadedModel& model, Kernels& kernels, const Dataset& dataset) {
  const std::int64_t max_length = length_to_keep(options.model.max_length, model);
  Bert bert(model.config, model.weights, kernels, Purpose::inference, scoring_limits(kernels, max_length));
  Evaluation evaluation = evaluate(bert, kernels, model.config, dataset, kernels.tokens_at_once());
  check(std::isfinite(evaluation.loss), "{}: the loss is {}: the model's weights are damaged", options.model.directory,
        evaluation.loss);
  return evaluation;
}

int run(const Options& options) {
  check_threads(options.model.threads);
  check_threshold(options.threshold);
  require_directory(options.data, "--data");
  const std::filesystem::path label_file = std::filesystem::path(options.data) / "labels.txt";
  const Labels labels = Labels::read(label_file);
  const std::filesystem::path data_file = find_split(options.data, options.split);
  const std::unique_ptr<Kernels> kernels = make_cpu_kernels(options.model.precision(), options.model.threads);
  const LoadedModel model = load_hugging_face(options.model.directory, *kernels);
  check_same_labels(labels, Labels(model.config.labels), label_file);

  EvaluationReport report;
  report.model = options.model.directory;
  report.computed_in = options.model.precision_name;
  report.data = data_file.string();
  report.split = options.split;
  report.labels = labels;
  const std::vector<Example> examples =
      read_examples(data_file, labels, {.skip_bad_rows = options.skip_bad_rows}, &report.rows);
  for (const std::string& note : notes_on(report.rows, data_file)) std::fprintf(stderr, "evaluate: %s\n", note.c_str());
  const Dataset dataset = tokenised(options, model, examples, data_file);
  const Evaluation evaluation = score(options, model, *kernels, dataset);
  report.loss = evaluation.loss;
  report.calibration_error = expected_calibration_error(evaluation.probabilities, evaluation.targets, labels.size());
  report.metrics = measure(evaluation.probabilities, evaluation.targets, labels.size(), options.threshold);
  if (options.sweep) report.sweep = sweep(evaluation.probabilities, evaluation.targets, labels.size());
  if (options.model.precision() == Precision::int8) {  // both keep the weights in fp32, on the host
    const std::unique_ptr<Kernels> fp32 = make_cpu_kernels(Precision::fp32, options.model.threads);
    const Evaluation exact = score(options, model, *fp32, dataset);
    report.fp32 = {exact.loss, measure(exact.probabilities, exact.targets, labels.size(), options.threshold)};
  }
  write_output(options.format == "json" ? as_json(report) : as_text(report));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  ember::adapt_spinning(argv);
  CLI::App app("Measures a fine-tuned model on labelled texts: loss, calibration, precision, recall and F1.");
  Options options;
  add_options(app, options);
  return run_program(app, argc, argv, [&] { return run(options); });
}
