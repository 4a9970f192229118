// One source for three targets: EMBER_FUZZ_FILE is x.tsv, x.jsonl or x.csv, and its ending chooses the reader.
#include "data/examples.h"
#include "runtime/utf8.h"
#include "tests/fuzz/input_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace ember;
  static const fuzz::InputFile file(EMBER_FUZZ_FILE);
  static const Labels labels({"joy", "grief", "neutral", "2"});
  file.hold(fuzz::as_text(data, size));
  for (const bool skip : {false, true}) {
    ReadReport report;
    std::vector<Example> examples;
    const bool taken =
        fuzz::takes(file.path().string(), [&] { examples = read_examples(file.path(), labels, {skip}, &report); });
    if (!taken) continue;
    fuzz::require(report.rows == static_cast<std::int64_t>(examples.size()) && report.rows > 0, "rows are miscounted");
    for (const Example& example : examples) {
      fuzz::require(valid_utf8(example.text), "a text that is not UTF-8");
      for (std::size_t i = 0; i < example.labels.size(); ++i) {
        const bool rising = i == 0 || example.labels[i - 1] < example.labels[i];
        fuzz::require(rising && example.labels[i] >= 0 && example.labels[i] < labels.size(), "labels out of order");
      }
    }
  }
  return 0;
}
