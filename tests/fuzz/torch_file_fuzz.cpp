// The container: a zip file or the legacy stream.
#include "model/torch_file.h"
#include "tests/fuzz/input_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace ember;
  static const fuzz::InputFile file("x.bin");
  file.hold(fuzz::as_text(data, size));
  fuzz::takes(file.path().string(), [&] {
    const TorchFile torch(file.path());
    for (const StoredTensor& tensor : torch.tensors()) fuzz::touch(tensor.bytes);
  });
  return 0;
}
