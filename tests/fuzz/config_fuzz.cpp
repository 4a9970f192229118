#include "model/config.h"
#include "tests/fuzz/input_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace ember;
  static const fuzz::InputFile file("config.json");
  file.hold(fuzz::as_text(data, size));
  BertConfig config;
  const bool taken = fuzz::takes(file.path().string(), [&] { config = read_config(file.path()); });
  if (!taken) return 0;
  config.multi_label = true;  // all that is ever written
  file.hold(config_json(config));
  fuzz::require(read_config(file.path()) == config, "a config that is not what was written of it");
  return 0;
}
