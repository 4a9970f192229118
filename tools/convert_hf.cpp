// convert_hf: a BERT checkpoint, safetensors or torch.save, becomes a Hugging Face directory that train loads.
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "model/conversion.h"
#include "model/weight_files.h"
#include "output.h"
#include "runtime/error.h"
#include "runtime/file.h"
#include "runtime/program.h"
#include "runtime/shares.h"

namespace {

using namespace ember;
namespace fs = std::filesystem;

constexpr const char* kNew = "new";     // a use of a temporary name
constexpr std::size_t kMaxName = 1000;  // of a tensor, when shown

struct Options {
  std::string input, out, labels, config, vocabulary, dtype = "fp32";
  bool list = false, force = false, new_classifier = false;
};

void add_options(CLI::App& app, Options& options) {
  app.footer(
      "INPUT is a Hugging Face directory with config.json, vocab.txt (or else tokenizer.json) and model.safetensors\n"
      "(or its shards and model.safetensors.index.json) or pytorch_model.bin, or one such weight file with --config\n"
      "and --vocab. A pickle in it is read as data and never executed. A classifier that is missing is drawn, into\n"
      "the labels of --labels, of config.json, or else LABEL_0 and LABEL_1; one that is there is kept, or refused\n"
      "where it is into other labels or for another problem, but with --new-classifier drawn as if it were missing.\n"
      "What is drawn is the same each time; train --new-classifier --seed N draws others.\n"
      "A tokenizer_config.json in the directory, or beside --vocab, says whether the vocabulary is lower-case. What\n"
      "stands there and makes other tokens than BertTokenizer does with vocab.txt is refused.");
  app.add_option("INPUT", options.input, "what to convert")->required();
  app.add_option("OUT", options.out, "the directory to write, parents included; must not exist, but for --force");
  app.add_option("--labels", options.labels, "labels.txt: the labels to classify into, one a line")->type_name("FILE");
  app.add_option("--config", options.config, "config.json, where INPUT is a weight file")->type_name("FILE");
  app.add_option("--vocab", options.vocabulary, "vocab.txt or tokenizer.json, where INPUT is a weight file")
      ->type_name("FILE");
  app.add_option("--dtype", options.dtype, "the type of the weights in OUT: fp32 or fp16")
      ->check(CLI::IsMember({"fp32", "fp16"}))
      ->type_name("TYPE")
      ->capture_default_str();
  app.add_flag("--new-classifier", options.new_classifier, "draw a classifier in place of INPUT's");
  app.add_flag("--force", options.force, "replace OUT, if a model is all that it holds");
  const auto converting =
      app.get_options([](const CLI::Option* o) { return o->get_name() != "INPUT" && o->get_name() != "--help"; });
  CLI::Option* list = app.add_flag("--list", options.list,
                                   "print name, type, shape, bytes and file of every tensor, and convert nothing");
  for (CLI::Option* option : converting) list->excludes(option);
}

fs::path find_weights(const fs::path& input) {
  check(!input.empty(), "INPUT: the checkpoint to convert is missing");
  check(fs::exists(input), "{}: no such file or directory", input.string());
  if (!fs::is_directory(input)) return input;
  const bool has_safetensors = fs::exists(input / kWeightsFile) || fs::exists(input / kShardsFile);
  if (!has_safetensors && fs::exists(input / kTorchWeightsFile)) return input / kTorchWeightsFile;
  check(has_safetensors || !fs::exists(input / "pytorch_model.bin.index.json"),
        "{}: the weights are split over several files, one {} was expected", input.string(), kTorchWeightsFile);
  check(has_safetensors, "{}: holds no {}, {} or {}", input.string(), kWeightsFile, kShardsFile, kTorchWeightsFile);
  return weights_path(input);
}

// The files around the weights: those of the directory, or as the flags say.
CheckpointFiles find_files(const Options& options, const WeightFiles& weights) {
  CheckpointFiles files{options.config, options.vocabulary, weights.path(), weights.tensors()};
  const fs::path input = options.input;
  if (fs::is_directory(input)) {
    check(options.config.empty() && options.vocabulary.empty(),
          "--config and --vocab go with a weight file, but {} is a directory", options.input);
    files.config = input / kConfigFile;
    files.vocabulary = input / kVocabularyFile;
  }
  check(!files.config.empty() && !files.vocabulary.empty(),
        "{}: --config and --vocab must name its config.json and vocab.txt", options.input);
  // What stands beside a name that was mistyped is another vocabulary.
  check(fs::is_directory(input) || fs::exists(files.vocabulary), "--vocab {}: no such file", options.vocabulary);
  return files;
}

// Refuses what must not be replaced: anything without --force, the input, and a folder with more in it than a model.
void check_out(const Options& options, const fs::path& weights) {
  const fs::path out = options.out;
  check(!options.out.empty(), "OUT: the directory to write is missing");
  std::error_code error;
  if (!fs::exists(fs::symlink_status(out, error))) return;
  const bool is_input =
      fs::equivalent(out, weights, error) || fs::equivalent(out, fs::absolute(weights).parent_path(), error);
  check(!is_input, "{}: is where the input is; name another OUT", options.out);
  check(options.force, "{}: is there already; replace it with --force, or name another OUT", options.out);
  check(fs::is_directory(fs::symlink_status(out, error)), "{}: is no directory, so --force does not replace it",
        options.out);
  for (const fs::directory_entry& entry : fs::directory_iterator(out)) {
    const std::string name = entry.path().filename().string();
    const bool ours =
        std::find(kModelFiles.begin(), kModelFiles.end(), name) != kModelFiles.end() && !entry.is_directory();
    check(ours, "{}: holds {}, which is no part of a converted model, so --force does not replace it", options.out,
          printable(name));
  }
}

// The process that left a half written OUT beside it, .OUT.PID.new or the partial form of that or of OUT; 0 for other
// names, an old OUT's that was being replaced among them.
pid_t writer_of(std::string_view name, std::string_view out) {
  auto parsed = parse_temporary_name(name);
  if (parsed && parsed->use == kPartial) {
    if (parsed->of == out) return parsed->process;
    parsed = parse_temporary_name(parsed->of);
  }
  return parsed && parsed->use == kNew && parsed->of == out ? parsed->process : 0;
}

// Removes what conversions to OUT that were killed left half written: of processes that are not here, and older than
// those of other machines that share the folder take.
void remove_leftovers(const fs::path& out) {
  constexpr std::chrono::minutes kLongest(15);
  std::error_code error;
  for (fs::directory_iterator entry(out.parent_path(), error), end; !error && entry != end; entry.increment(error)) {
    const pid_t process = writer_of(entry->path().filename().string(), out.filename().string());
    std::error_code unknown, ignored;
    const bool ended = process > 0 && ::kill(process, 0) != 0 && errno == ESRCH;
    if (ended && fs::last_write_time(entry->path(), unknown) < fs::file_time_type::clock::now() - kLongest && !unknown)
      fs::remove_all(entry->path(), ignored);
  }
}

// The new directory takes the place of an old one only once it is complete, in one step where the file system can; the
// old one goes last.
void write_model(const Options& options, const std::function<void(const fs::path&)>& save) {
  const fs::path given = fs::absolute(options.out);
  const fs::path out = given.has_filename() ? given : given.parent_path();
  require_writable_directory(out.parent_path());
  remove_leftovers(out);
  if (!fs::exists(out)) return write_directory_atomically(out, save);
  const fs::path fresh = temporary_name(out, kNew), old = temporary_name(out, "old");
  write_directory_atomically(fresh, save);
  std::error_code error, ignored;
  if (::renameat2(AT_FDCWD, fresh.c_str(), AT_FDCWD, out.c_str(), RENAME_EXCHANGE) == 0) {
    fs::remove_all(fresh, ignored);
    return;
  }
  fs::rename(out, old, error);
  if (!error) {
    fs::rename(fresh, out, error);
    if (error) fs::rename(old, out, ignored);
  }
  fs::remove_all(error ? fresh : old, ignored);
  check(!error, "{}: cannot be replaced: {}", options.out, error.message());
}

void list_tensors(const WeightFiles& weights) {
  std::string text;
  for (const StoredTensor& tensor : weights.tensors())
    text += fmt::format("{}\t{}\t[{}]\t{}\t{}\n", printable(tensor.name, kMaxName), tensor.dtype,
                        fmt::join(tensor.shape, ", "), tensor.size(), tensor.file->filename().string());
  write_output(text);
}

void print_report(const CheckpointMatch& model, const std::vector<std::string>& others) {
  const LoadReport& report = model.report;
  const std::set<std::string> drawn(report.initialised.begin(), report.initialised.end());
  std::string text;
  const auto rows = [&](const char* what, const std::vector<std::string>& names, const char* note = "") {
    for (const std::string& name : names) text += fmt::format("{:<12} {}{}\n", what, name, note);
  };
  std::vector<std::string> imported;
  for (const Parameter& parameter : model.list)
    if (drawn.count(parameter.name) == 0) imported.push_back(parameter.name);
  std::vector<std::string> shown;
  for (const std::string& name : others) shown.push_back(printable(name));
  rows("imported", imported);
  rows("renamed", report.renamed);
  rows("initialised", report.initialised);
  rows("ignored", report.ignored);
  rows("ignored", shown, " (no tensor)");
  text += fmt::format("{} imported, {} of them renamed, {} initialised, {} ignored; {} labels\n", imported.size(),
                      report.renamed.size(), report.initialised.size(), report.ignored.size() + shown.size(),
                      model.config.label_count());
  write_output(text);
}

int run(const Options& options) {
  if (!options.list && fs::is_directory(options.input)) require_no_adapter(options.input);
  const fs::path path = find_weights(options.input);
  if (!options.list) check_out(options, path);
  const WeightFiles weights(path);
  if (options.list) {
    list_tensors(weights);
    return 0;
  }
  LoadOptions load;
  load.draw_classifier = true;
  load.replace_classifier = options.new_classifier;
  if (!options.labels.empty()) load.labels = Labels::read(options.labels);
  const CheckpointFiles files = find_files(options, weights);
  const CheckpointMatch model = match_checkpoint(files, read_surroundings(files, load), load);
  write_model(options, [&](const fs::path& folder) {
    // Reading all of a file to compare its CRCs takes as long as writing does.
    in_shares(2, 2, [&](std::size_t share, std::size_t, std::size_t) {
      if (share == 0)
        write_converted(folder, model, {options.dtype == "fp16" ? DType::f16 : DType::f32, load.seed});
      else
        weights.check_data();
    });
  });
  print_report(model, weights.other_entries());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Converts a BERT checkpoint to a Hugging Face directory that train loads."};
  Options options;
  add_options(app, options);
  return run_program(app, argc, argv, [&] { return run(options); });
}
