// tokenize: the token ids of each line of standard input.
#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdint>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "data/json_row.h"
#include "data/row_reader.h"
#include "data/tokenizer.h"
#include "output.h"
#include "runtime/error.h"
#include "runtime/program.h"
#include "runtime/utf8.h"

namespace {

using namespace ember;
using nlohmann::json;

constexpr std::size_t kOutputBytes = std::size_t{1} << 16;

struct Options {
  std::string vocabulary;
  std::int64_t max_length = 128;
  bool cased = false;
  bool jsonl = false;
};

void add_options(CLI::App& app, Options& options) {
  app.footer(
      "Each line becomes one line of ids separated by spaces, [CLS] first and [SEP] last. Bytes that are not\n"
      "UTF-8 are left out.");
  app.add_option("--vocab", options.vocabulary, "vocab.txt: one token a line")->required()->type_name("FILE");
  app.add_option("--max-length", options.max_length, "keep this many ids of a line, [CLS] and [SEP] among them")
      ->type_name("N")
      ->capture_default_str();
  app.add_flag("--cased", options.cased, "the vocabulary is cased: neither lower-case nor strip accents");
  app.add_flag("--jsonl", options.jsonl,
               "lines are JSON, \"TEXT\" or {\"text\": \"TEXT\"}, and become JSON arrays of ids");
}

// The text of one line of JSON. Error naming the line where it is something else.
std::string json_text(std::string line, std::int64_t number) {
  repair_utf8(line);
  try {
    const json value = parse_json_row(line);
    const json& text = value.is_object() && value.contains("text") ? value["text"] : value;
    if (text.is_string()) return text.get<std::string>();
  } catch (const BadRow& problem) {
    fail("standard input:{}: {}: {}", number, printable(line), problem.what());
  }
  fail("standard input:{}: {} is neither a JSON string nor an object with a string \"text\"", number, printable(line));
}

void append_ids(const std::vector<std::int32_t>& ids, bool as_json, std::string& out) {
  if (as_json) out += '[';
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (i > 0) out += as_json ? ',' : ' ';
    out += std::to_string(ids[i]);
  }
  out += as_json ? "]\n" : "\n";
}

int run(const Options& options) {
  const Tokenizer tokenizer(options.vocabulary, !options.cased);
  check(options.max_length >= 2, "--max-length {}: must be a whole number from 2 on, for [CLS] and [SEP]",
        options.max_length);
  std::ios::sync_with_stdio(false);
  std::string line, out;
  std::vector<std::int32_t> ids;
  for (std::int64_t number = 1; std::getline(std::cin, line); ++number) {
    ids.clear();
    if (number == 1) refuse_utf16(line, "standard input");
    try {
      tokenizer.encode(options.jsonl ? json_text(line, number) : line, options.max_length, ids);
    } catch (const Error&) {
      write_output(out);  // of the lines before
      throw;
    }
    append_ids(ids, options.jsonl, out);
    // Whoever waits for an answer before typing on gets it now.
    const bool input_waits = std::cin.rdbuf()->in_avail() <= 0;
    if (!input_waits && out.size() < kOutputBytes) continue;
    write_output(out);
    out.clear();
  }
  check(!std::cin.bad(), "standard input: {}", errno_text(errno));
  write_output(out);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Prints the WordPiece token ids of each line of standard input."};
  Options options;
  add_options(app, options);
  return run_program(app, argc, argv, [&] { return run(options); });
}
