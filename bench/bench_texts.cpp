// Ember's side of bench/compare.sh for inference and tokenisation: the library's own classifier and tokenizer, timed
// inside the process as the peers are, on a file of texts. It talks as bench/peers/common.py describes:
//   build/bench/bench_texts --task inference --model MODEL --texts FILE --threads 1
//   round        -> {"texts_per_second":...,"latency_ms":...}
//   check FILE   -> FILE gets what was computed, as the peers write it
#include <CLI/CLI.hpp>
#include <algorithm>
#include <bit>
#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench/statistics.h"
#include "bench/time_call.h"
#include "data/tokenizer.h"
#include "model/classifier.h"
#include "model/hugging_face.h"
#include "runtime/error.h"
#include "runtime/file.h"
#include "runtime/program.h"
#include "runtime/shares.h"

namespace {

using namespace ember;
using nlohmann::json;

static_assert(std::endian::native == std::endian::little, "check files are little-endian");

constexpr std::size_t kLatencyTexts = 50;  // as common.py's LATENCY_TEXTS
constexpr std::int64_t kMaxLength = 128;   // as common.py's MAX_LENGTH

struct Options {
  std::string task = "inference", model, texts, precision = "fp32";
  int threads = 1;
};

std::vector<std::string> lines_of(const std::string& path) {
  const std::string all = read_file(path);
  std::vector<std::string> lines;
  for (std::size_t begin = 0; begin < all.size();) {
    const std::size_t end = std::min(all.find('\n', begin), all.size());
    lines.push_back(all.substr(begin, end - begin));
    begin = end + 1;
  }
  check(!lines.empty(), "{}: a text a line was expected, but the file is empty", printable(path));
  return lines;
}

std::int64_t positions_of(const std::filesystem::path& model) {
  return read_config(model / kConfigFile).positions;
}

template <typename T>
void append_bytes(std::string& out, const std::vector<T>& values) {
  out.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

class Task {
 public:
  virtual ~Task() = default;
  virtual json round() = 0;
  virtual std::string outputs() = 0;
};

class Inference : public Task {
 public:
  explicit Inference(const Options& options)
      : texts_(lines_of(options.texts)),
        classifier_(options.model, {.max_length = std::min(kMaxLength, positions_of(options.model)),
                                    .threads = options.threads,
                                    .precision = precision_named(options.precision)}) {}

  json round() override {
    const double all = seconds_of([&] { classifier_.predict(texts_); });
    Scores scores;
    std::vector<double> single;
    for (std::size_t i = 0; i < std::min(kLatencyTexts, texts_.size()); ++i)
      single.push_back(seconds_of([&] { classifier_.predict(texts_[i], scores); }));
    return {{"texts_per_second", static_cast<double>(texts_.size()) / all}, {"latency_ms", 1e3 * median(single)}};
  }

  std::string outputs() override {
    std::string out;
    for (const Scores& scores : classifier_.predict(texts_)) append_bytes(out, scores.logits);
    return out;
  }

 private:
  std::vector<std::string> texts_;
  Classifier classifier_;
};

class Tokenisation : public Task {
 public:
  explicit Tokenisation(const Options& options)
      : texts_(lines_of(options.texts)), tokenizer_(tokenizer_of(options.model)) {}

  json round() override {
    const double all = seconds_of([&] {
      ids_.clear();
      for (const std::string& text : texts_) tokenizer_.encode(text, kMaxLength, ids_);
    });
    return {{"texts_per_second", static_cast<double>(texts_.size()) / all}};
  }

  std::string outputs() override {
    round();
    std::string out;
    append_bytes(out, ids_);
    return out;
  }

 private:
  std::vector<std::string> texts_;
  Tokenizer tokenizer_;
  std::vector<std::int32_t> ids_;
};

void say(const json& answer) {
  std::cout << answer.dump() << std::endl;
}

void validate(const Options& options) {
  if (options.task == "inference") return;
  check(options.threads == 1, "--threads {}: tokenisation takes one thread", options.threads);
  check(options.precision == "fp32", "--precision {}: is of inference, but --task is tokenisation", options.precision);
}

int run(const Options& options) {
  validate(options);
  std::unique_ptr<Task> task;
  if (options.task == "inference")
    task = std::make_unique<Inference>(options);
  else
    task = std::make_unique<Tokenisation>(options);
  say({{"ready", true}, {"engine", "Ember"}});
  for (std::string line; std::getline(std::cin, line);) {
    if (line == "round") {
      say(task->round());
      continue;
    }
    check(line.starts_with("check "), "standard input: `round` or `check FILE` was expected, not {}", printable(line));
    write_file_atomically(line.substr(6), task->outputs());
    say(json::object());
  }
  return 0;
}

void add_options(CLI::App& app, Options& options) {
  app.footer(
      "Standard input: a line `round` times one round, answered by a line of JSON; `check FILE` writes what was\n"
      "computed (bench/compare.sh speaks to it so).");
  app.option_defaults()->always_capture_default();
  app.add_option("--task", options.task, "what to time")->check(CLI::IsMember({"inference", "tokenisation"}));
  app.add_option("--model", options.model, "directory of the fine-tuned model")->required();
  app.add_option("--texts", options.texts, "file of texts, one a line")->required();
  app.add_option("--precision", options.precision, "of inference")->check(CLI::IsMember({"fp32", "bf16", "int8"}));
  app.add_option("--threads", options.threads, "of inference; tokenisation takes one")
      ->check(CLI::Range(1, kMostThreads));
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Times Ember's inference or tokenisation of a file of texts, a round at a time as standard input asks.");
  Options options;
  add_options(app, options);
  return run_program(app, argc, argv, [&] { return run(options); });
}
