#include "model/fast_tokenizer.h"
#include "tests/fuzz/input_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace ember;
  static const fuzz::InputFile file("tokenizer.json");
  file.hold(fuzz::as_text(data, size));
  FastTokenizer tokenizer;
  const std::string path = file.path().string();
  if (!fuzz::takes(path, [&] { tokenizer = read_fast_tokenizer(file.path()); })) return 0;
  for (const std::string& token : tokenizer.vocabulary)
    fuzz::require(token.find('\n') == token.npos, "a token that is no line");
  fuzz::takes(path, [&] { require_bert_rules(tokenizer, file.path()); });
  return 0;
}
