#include "train/inputs.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <utility>

#include "data/tokenizer.h"
#include "model/fine_tuned.h"
#include "runtime/error.h"
#include "runtime/file.h"

namespace ember {
namespace {

Dataset load_split(const TrainOptions& options, const std::string& split, const Labels& labels,
                   const Tokenizer& tokenizer, std::int64_t max_length, std::vector<std::string>& notes) {
  const std::filesystem::path file = find_split(options.data, split);
  ReadReport report;
  const std::vector<Example> examples = read_examples(file, labels, {.skip_bad_rows = options.skip_bad_rows}, &report);
  for (std::string& note : notes_on(report, file)) notes.push_back(std::move(note));
  Dataset dataset = tokenize(examples, tokenizer, max_length, options.threads);
  if (std::string note = note_on_cut(dataset, max_length, file); !note.empty()) notes.push_back(std::move(note));
  return dataset;
}

}  // namespace

TrainingInputs load_inputs(const TrainOptions& options, Kernels& kernels) {
  require_directory(options.data, "--data");
  Labels labels = Labels::read(options.data / "labels.txt");
  LoadedModel model = load_hugging_face(options.model, kernels,
                                        {.labels = labels,
                                         .replace_classifier = options.new_classifier,
                                         .seed = options.recipe.seed,
                                         .threads = options.threads,
                                         .from_scratch = options.from_scratch});
  const std::int64_t max_length = length_to_keep(options.recipe.max_length, Recipe::kMaxLength, model.config);
  std::vector<std::string> notes;
  // What a tokenizer states below the model's positions was chosen, as by an earlier training.
  const std::int64_t before = length_to_keep({}, model);
  if (!options.recipe.max_length && before != max_length && before < model.config.positions)
    notes.push_back(fmt::format("{} tokens of a text count; of --model it was {}, which --max-length {} keeps",
                                max_length, before, before));
  model.tokenizer.max_length = max_length;  // for what is saved
  const Tokenizer tokenizer(model.tokenizer);
  Dataset train = load_split(options, "train", labels, tokenizer, max_length, notes);
  Dataset dev = load_split(options, "dev", labels, tokenizer, max_length, notes);
  return {std::move(labels), std::move(model), std::move(train), std::move(dev), std::move(notes)};
}

std::vector<std::string> notes_on(const LoadReport& report) {
  std::vector<std::string> notes;
  if (!report.initialised.empty()) {
    const std::size_t count = report.initialised.size();
    notes.push_back(count <= 4 ? fmt::format("drawn afresh: {}", fmt::join(report.initialised, ", "))
                               : fmt::format("drawn afresh: all {} weights", count));
  }
  if (!report.ignored.empty()) {
    const std::string first = printable(report.ignored.front());
    const std::size_t count = report.ignored.size();
    notes.push_back(count == 1
                        ? fmt::format("{} of the model file is of no use here", first)
                        : fmt::format("{} tensors of the model file are of no use here, such as {}", count, first));
  }
  return notes;
}

}  // namespace ember
