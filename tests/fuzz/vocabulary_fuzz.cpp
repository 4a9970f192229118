// The input is vocab.txt, and the text to tokenize with it.
#include "data/tokenizer.h"
#include "tests/fuzz/input_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace ember;
  static const fuzz::InputFile file("vocab.txt");
  const std::string_view text = fuzz::as_text(data, size);
  file.hold(text);
  fuzz::takes(file.path().string(), [&] {
    const bool lower_case = size % 2 == 0;
    const Tokenizer tokenizer(file.path(), lower_case);
    const std::vector<std::int32_t> ids = tokenizer.encode(text, 64);
    fuzz::require(ids.size() >= 2 && ids.size() <= 64, "a length that is not what was asked for");
    for (const std::int32_t id : ids)
      fuzz::require(id >= 0 && id < tokenizer.vocabulary_size(), "an id outside of the vocabulary");
  });
  return 0;
}
