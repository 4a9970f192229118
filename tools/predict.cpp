// predict: the emotions of texts given as arguments or as lines of standard input.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "input_lines.h"
#include "model/classifier.h"
#include "model_options.h"
#include "output.h"
#include "prediction_format.h"
#include "runtime/error.h"
#include "runtime/program.h"
#include "runtime/shares.h"
#include "runtime/spinning.h"

namespace {

using namespace ember;

constexpr char kNotes[] =
    "TEXT that starts with - goes after --. Without TEXT, standard input is read, one text a line; results come as "
    "soon\n"
    "as the lines do, in their order. Of a line longer than 65536 bytes the beginning is used. Bytes that are not\n"
    "UTF-8 are left out, and shown as U+FFFD.\n\n"
    "Formats: text  TEXT<tab>joy 0.93, love 0.31\n"
    "         jsonl {\"text\":..., \"labels\":[{\"label\":\"joy\",\"score\":0.93}]}; --all adds \"logits\"\n"
    "         tsv   a line of column names, then text, labels and scores; with --all one score a label;\n"
    "               of a label whose name has a comma the id stands there\n"
    "text and tsv write a tab, line feed, carriage return and backslash of the text as \\t \\n \\r \\\\,\n"
    "which train does not undo.";

struct Options {
  ModelOptions model;
  Selection selection;
  std::string format = "text";
};

// The usage line names TEXT, which is parsed by texts_of below.
class Usage : public CLI::Formatter {
 public:
  std::string make_usage(const CLI::App*, std::string name) const override {
    return "Usage: " + name + " --model DIR [OPTIONS] [TEXT...]\n\n";
  }
};

void add_options(CLI::App& app, Options& options) {
  app.formatter(std::make_shared<Usage>());
  app.footer(kNotes);
  app.allow_extras();
  add_model_options(app, options.model);
  CLI::Option* threshold =
      app.add_option("--threshold", options.selection.threshold, "show labels that score this much at least")
          ->type_name("P")
          ->capture_default_str();
  CLI::Option* top =
      app.add_option("--top", options.selection.top, "show the N best labels instead, whatever they score")
          ->type_name("N")
          ->excludes(threshold);
  app.add_flag("--all", options.selection.all, "show every label instead")->excludes(top)->excludes(threshold);
  app.add_option("--format", options.format, "text, jsonl or tsv")
      ->check(CLI::IsMember({"text", "jsonl", "tsv"}))
      ->type_name("NAME")
      ->capture_default_str();
}

// CLI11 would split an argument such as "[NAME] is [sad]" at its commas, taking it for a list, if TEXT were an option
// of its own; so the texts are what is left over.
std::vector<std::string> texts_of(const CLI::App& app) {
  std::vector<std::string> texts;
  bool only_texts = false;
  for (const std::string& argument : app.remaining()) {
    if (!only_texts && argument == "--") {
      only_texts = true;
      continue;
    }
    check(only_texts || argument.size() < 2 || argument[0] != '-',
          "{}: no such option; a text that starts with - goes after --", printable(argument));
    texts.push_back(argument);
  }
  return texts;
}

PredictionFormat format_of(const std::string& name) {
  if (name == "jsonl") return PredictionFormat::jsonl;
  return name == "tsv" ? PredictionFormat::tsv : PredictionFormat::text;
}

void predict(Classifier& classifier, const PredictionFormatter& formatter, std::span<const std::string> texts) {
  const std::vector<Scores> scores = classifier.predict(texts);
  std::string out;
  for (std::size_t i = 0; i < texts.size(); ++i) formatter.append(out, texts[i], scores[i]);
  write_output(out);
}

void predict_lines(Classifier& classifier, const PredictionFormatter& formatter) {
  if (::isatty(STDIN_FILENO)) std::fputs("predict: type a text a line; Ctrl-D ends\n", stderr);
  InputLines input(STDIN_FILENO);
  std::vector<std::string> lines;
  while (input.next(lines)) predict(classifier, formatter, lines);
  if (input.long_lines() > 0)
    std::fprintf(stderr, "predict: of %lld lines only the first %zu bytes were used\n",
                 static_cast<long long>(input.long_lines()), InputLines::kLineBytes);
}

int run(const Options& options, const std::vector<std::string>& texts) {
  check_threads(options.model.threads);
  check_threshold(options.selection.threshold);
  if (options.selection.top)
    check(*options.selection.top >= 1, "--top {}: must be a whole number from 1 on", *options.selection.top);
  const ModelOptions& model = options.model;
  Classifier classifier(model.directory, {model.max_length, model.threads, model.precision()});
  const PredictionFormatter formatter(classifier.labels(), format_of(options.format), options.selection);
  write_output(formatter.header());
  if (texts.empty()) predict_lines(classifier, formatter);
  for (std::size_t i = 0; i < texts.size(); i += InputLines::kChunkLines)
    predict(classifier, formatter, std::span(texts).subspan(i, std::min(InputLines::kChunkLines, texts.size() - i)));
  if (const auto cut = static_cast<long long>(classifier.cut()); cut > 0)
    std::fprintf(stderr, "predict: %lld text%s cut to %lld tokens (--max-length)\n", cut, cut == 1 ? " is" : "s are",
                 static_cast<long long>(classifier.max_length()));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  ember::adapt_spinning(argv);
  CLI::App app("Scores the emotions of texts with a fine-tuned model.");
  // -h too, but not the beginning of a text, for which CLI11 would take it.
  app.set_help_flag("--help", "Print this help message and exit");
  static char help[] = "--help";
  for (int i = 1; i < argc && std::string_view(argv[i]) != "--"; ++i)
    if (std::string_view(argv[i]) == "-h") argv[i] = help;
  Options options;
  add_options(app, options);
  return run_program(app, argc, argv, [&] { return run(options, texts_of(app)); });
}
