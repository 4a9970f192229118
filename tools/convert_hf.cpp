// convert_hf: a BERT checkpoint, safetensors or torch.save, becomes a Hugging Face directory that train loads.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "kernels/kernels.h"
#include "model/hugging_face.h"
#include "model/safetensors.h"
#include "model/torch_file.h"
#include "output.h"
#include "runtime/error.h"
#include "runtime/file.h"
#include "runtime/program.h"

namespace {

using namespace ember;
namespace fs = std::filesystem;

constexpr const char* kTorchWeights = "pytorch_model.bin";
constexpr std::size_t kMaxName = 1000;  // of a tensor, when shown

struct Options {
  std::string input, out, labels, config, vocabulary;
  bool list = false, force = false;
};

void add_options(CLI::App& app, Options& options) {
  app.footer(
      "INPUT is a Hugging Face directory with config.json, vocab.txt and model.safetensors or pytorch_model.bin, or "
      "one\n"
      "weight file with --config and --vocab. A pickle in it is read as data and never executed. A classifier that is\n"
      "missing is drawn, into the labels of --labels, of config.json, or else LABEL_0 and LABEL_1; train draws a new "
      "one\n"
      "where its data have other labels.");
  app.add_option("INPUT", options.input, "what to convert")->required();
  app.add_option("OUT", options.out, "the directory to write; must not exist");
  app.add_option("--labels", options.labels, "labels.txt: the labels to classify into, one a line")->type_name("FILE");
  app.add_option("--config", options.config, "config.json, where INPUT is a weight file")->type_name("FILE");
  app.add_option("--vocab", options.vocabulary, "vocab.txt, where INPUT is a weight file")->type_name("FILE");
  app.add_flag("--list", options.list, "print name, type, shape, bytes and file of every tensor, and convert nothing");
  app.add_flag("--force", options.force, "replace OUT, if a model is all that it holds");
}

// A weight file of either kind, open.
class Weights {
 public:
  explicit Weights(const fs::path& path) : path_(path) {
    if (path.extension() == ".safetensors")
      safetensors_.emplace(path);
    else
      torch_.emplace(path);
  }
  const fs::path& path() const { return path_; }
  const std::vector<StoredTensor>& tensors() const { return torch_ ? torch_->tensors() : safetensors_->tensors(); }
  std::vector<std::string> other_entries() const {
    return torch_ ? torch_->other_entries() : std::vector<std::string>{};
  }

 private:
  fs::path path_;
  std::optional<SafetensorsFile> safetensors_;
  std::optional<TorchFile> torch_;
};

fs::path find_weights(const fs::path& input) {
  check(fs::exists(input), "{}: no such file or directory", input.string());
  if (!fs::is_directory(input)) return input;
  if (!fs::exists(input / "model.safetensors") && fs::exists(input / kTorchWeights)) return input / kTorchWeights;
  check(!fs::exists(input / "pytorch_model.bin.index.json"),
        "{}: the weights are split over several files, one {} was expected", input.string(), kTorchWeights);
  return weights_path(input);
}

// The files around the weights: those of the directory, or as the flags say.
CheckpointFiles find_files(const Options& options, const Weights& weights) {
  CheckpointFiles files{options.config, options.vocabulary, {}, weights.path(), weights.tensors()};
  const fs::path input = options.input;
  if (fs::is_directory(input)) {
    check(options.config.empty() && options.vocabulary.empty(),
          "--config and --vocab go with a weight file, but {} is a directory", options.input);
    files.config = input / "config.json";
    files.vocabulary = input / "vocab.txt";
    files.tokenizer = input / "tokenizer_config.json";
  }
  check(!files.config.empty() && !files.vocabulary.empty(),
        "{}: --config and --vocab must name its config.json and "
        "vocab.txt",
        options.input);
  return files;
}

// Refuses what must not be replaced: anything without --force, the input, and a folder with more in it than a model.
void check_out(const Options& options, const fs::path& weights) {
  const fs::path out = options.out;
  check(!options.out.empty(), "OUT: the directory to write is missing");
  std::error_code error;
  if (!fs::exists(fs::symlink_status(out, error))) return;
  const bool is_input = fs::equivalent(out, options.input, error) || fs::equivalent(out, weights, error) ||
                        fs::equivalent(out, fs::absolute(weights).parent_path(), error);
  check(!is_input, "{}: is where the input is; name another OUT", options.out);
  check(options.force, "{}: is there already; replace it with --force, or name another OUT", options.out);
  check(fs::is_directory(fs::symlink_status(out, error)), "{}: is no directory, so --force does not replace it",
        options.out);
  constexpr std::array<std::string_view, 5> kOurs{"config.json", "model.safetensors", "special_tokens_map.json",
                                                  "tokenizer_config.json", "vocab.txt"};
  for (const fs::directory_entry& entry : fs::directory_iterator(out)) {
    const std::string name = entry.path().filename().string();
    const bool ours = std::find(kOurs.begin(), kOurs.end(), name) != kOurs.end() && !entry.is_directory();
    check(ours, "{}: holds {}, which is no part of a converted model, so --force does not replace it", options.out,
          printable(name));
  }
}

// The new directory takes the place of an old one only once it is complete; the old one goes last.
void write_model(const Options& options, const LoadedModel& model, Kernels& kernels, const fs::path& vocabulary) {
  const fs::path given = fs::absolute(options.out);
  const fs::path out = given.has_filename() ? given : given.parent_path();
  const auto save = [&](const fs::path& folder) {
    save_hugging_face(folder, model.config, model.weights, kernels, {vocabulary, model.lower_case});
  };
  if (!fs::exists(out)) return write_directory_atomically(out, save);
  const auto beside = [&](const char* what) {
    return out.parent_path() / fmt::format(".{}.{}.{}", out.filename().string(), ::getpid(), what);
  };
  const fs::path fresh = beside("new"), old = beside("old");
  write_directory_atomically(fresh, save);
  std::error_code error, ignored;
  fs::rename(out, old, error);
  if (!error) {
    fs::rename(fresh, out, error);
    if (error) fs::rename(old, out, ignored);
  }
  fs::remove_all(error ? fresh : old, ignored);
  check(!error, "{}: cannot be replaced: {}", options.out, error.message());
}

void list_tensors(const Weights& weights) {
  std::string text;
  for (const StoredTensor& tensor : weights.tensors())
    text += fmt::format("{}\t{}\t[{}]\t{}\t{}\n", printable(tensor.name, kMaxName), tensor.dtype,
                        fmt::join(tensor.shape, ", "), tensor.bytes.size(), weights.path().filename().string());
  write_output(text);
}

void print_report(const LoadedModel& model, const std::vector<std::string>& others) {
  const LoadReport& report = model.report;
  const std::set<std::string> drawn(report.initialised.begin(), report.initialised.end());
  std::string text;
  const auto rows = [&](const char* what, const std::vector<std::string>& names, const char* note = "") {
    for (const std::string& name : names) text += fmt::format("{:<12} {}{}\n", what, name, note);
  };
  std::vector<std::string> imported;
  for (const Parameter& parameter : model.weights.list)
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
  const fs::path path = find_weights(options.input);
  if (!options.list) check_out(options, path);
  const Weights weights(path);
  if (options.list) {
    list_tensors(weights);
    return 0;
  }
  LoadOptions load;
  load.draw_classifier = true;
  if (!options.labels.empty()) load.labels = Labels::read(options.labels);
  const CheckpointFiles files = find_files(options, weights);
  const auto kernels = make_cpu_kernels(Precision::fp32, 1);
  const LoadedModel model = load_checkpoint(files, *kernels, load);
  write_model(options, model, *kernels, files.vocabulary);
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
