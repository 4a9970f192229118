// The input is the pickle of a legacy file and all that follows it, so that both the opcodes and what the reader makes
// of the values are exercised.
#include "model/pickle.h"
#include "model/torch_file.h"
#include "tests/fuzz/input_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace ember;
  static const fuzz::InputFile file("x.bin");
  static const std::string head = std::string("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.") +
                                  std::string("\x80\x02M\xe9\x03.") + std::string("\x80\x02}.");
  const std::string_view stream = fuzz::as_text(data, size);
  fuzz::takes("x: ", [&] {
    const Pickle pickle(stream, "x");
    fuzz::require(pickle.size() <= size, "a pickle longer than its stream");
    for (const PickleValue& value : pickle.values()) describe(value);
  });
  file.hold(head + std::string(stream));
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
