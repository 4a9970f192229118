#include "model/safetensors.h"
#include "tests/fuzz/input_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace ember;
  static const fuzz::InputFile file("x.safetensors");
  file.hold(fuzz::as_text(data, size));
  fuzz::takes(file.path().string(), [&] {
    const SafetensorsFile tensors(file.path());
    std::size_t bytes = 0;
    for (const StoredTensor& tensor : tensors.tensors()) {
      fuzz::touch(tensor.bytes);
      bytes += tensor.bytes.size();
      fuzz::require(tensors.find(tensor.name) == &tensor, "a tensor that cannot be found");
      if (!is_floating(tensor)) continue;
      std::vector<float> values(static_cast<std::size_t>(tensor.elements()));
      copy_to_f32(tensor, values.data());
    }
    fuzz::require(bytes < size, "more bytes of tensors than the file has");
  });
  return 0;
}
