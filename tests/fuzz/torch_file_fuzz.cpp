// The container: a zip file or the legacy stream.
#include "model/torch_file.h"
#include "tests/fuzz/input_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace ember;
  static const fuzz::InputFile file("x.bin");
  file.hold(fuzz::as_text(data, size));
  fuzz::takes(file.path().string(), [&] {
    const TorchFile torch(file.path());
    torch.check_data();
    for (const StoredTensor& tensor : torch.tensors()) {
      std::vector<std::byte> scratch;
      const auto elements = stored_elements(tensor, 0, tensor.elements(), scratch);
      fuzz::require(elements.size() == tensor.size(), "a tensor of another size than its shape's");
      fuzz::touch(elements);
    }
  });
  return 0;
}
