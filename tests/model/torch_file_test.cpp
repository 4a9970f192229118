#include "model/torch_file.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <utility>

#include "model/safetensors.h"
#include "runtime/error.h"
#include "runtime/file.h"
#include "tests/support.h"

namespace ember {
namespace {

namespace fs = std::filesystem;
using testing::shared_dir;
using testing::source_dir;
using testing::TemporaryDirectory;

// A file's message, or nothing when it is read.
std::string torch_file_complaint(const std::string& content) {
  static const TemporaryDirectory directory;
  fs::remove(directory / "x");  // rewriting a file in place waits for the disk on some file systems
  std::ofstream(directory / "x", std::ios::binary) << content;
  return testing::error_about((directory / "x").string() + ": ", [] { TorchFile(directory / "x").check_data(); });
}

// Opcodes.
template <typename T>
std::string raw(T value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}
std::string op(const char* code, const std::string& argument) {
  std::string bytes = code;
  return bytes += argument;
}
std::string text(const std::string& s) {
  return op("X", raw(static_cast<std::uint32_t>(s.size()))) + s;
}
std::string number(std::int64_t value) {
  return op("\x8a\x08", raw(value));
}
std::string tuple(const std::string& items) {
  return "(" + items + "t";
}
const std::string kStart = "\x80\x02";
const std::string kFloats = "ctorch\nFloatStorage\n";
const std::string kRebuild = "ctorch._utils\n_rebuild_tensor_v2\n";
const std::string kNoHooks = "ccollections\nOrderedDict\n)R";

std::string storage(std::int64_t elements, const std::string& view = "N", const std::string& type = kFloats,
                    const std::string& key = "0") {
  return tuple(text("storage") + type + text(key) + text("cpu") + number(elements) + view) + "Q";
}
std::string tensor(const std::string& stored, std::int64_t offset, const std::string& shape, const std::string& strides,
                   const std::string& rest = "\x89" + kNoHooks) {
  return kRebuild + tuple(stored + number(offset) + tuple(shape) + tuple(strides) + rest) + "R";
}
std::string dict(const std::string& entries) {
  return "}(" + entries + "u";
}

constexpr std::int64_t kElements = 6;
const std::string kTensor = tensor(storage(kElements), 0, number(2) + number(3), number(3) + number(1));
const std::string kKeys = kStart + "](" + text("0") + "e.";

// A legacy file of this pickle, with one storage of 6 floats.
std::string legacy(const std::string& pickle, const std::string& keys = kKeys, const std::string& endian = "\x88",
                   std::int64_t elements = kElements) {
  const std::string magic = kStart + op("\x8a\x0a", "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19") + ".";
  const std::string version = kStart + op("M", raw(std::uint16_t{1001})) + ".";
  const std::string system = kStart + dict(text("little_endian") + endian) + ".";
  std::string data;
  for (int i = 0; i < kElements; ++i) data += raw(static_cast<float>(i));
  return magic + version + system + kStart + pickle + "." + keys + raw(elements) + data;
}
std::string complaint_of(const std::string& pickle) {
  return torch_file_complaint(legacy(pickle));
}
// Of a tensor of the one storage.
std::string complaint_of(std::int64_t offset, const std::string& shape, const std::string& strides) {
  return complaint_of(dict(text("t") + tensor(storage(kElements), offset, shape, strides)));
}

std::vector<float> floats(const StoredTensor& tensor) {
  std::vector<float> values(static_cast<std::size_t>(tensor.elements()));
  copy_to_f32(tensor, values.data());
  return values;
}
const StoredTensor& find(const TorchFile& file, const std::string& name) {
  for (const StoredTensor& tensor : file.tensors())
    if (tensor.name == name) return tensor;
  throw std::runtime_error("no tensor " + name);
}
std::vector<float> floats(const TorchFile& file, const std::string& name) {
  return floats(find(file, name));
}
template <typename T>
std::vector<T> values(const StoredTensor& tensor) {
  std::vector<T> out(tensor.bytes.size() / sizeof(T));
  std::memcpy(out.data(), tensor.bytes.data(), tensor.bytes.size());
  return out;
}

fs::path small(const char* form) {
  return source_dir() / "tests/golden/torch" / (std::string("small.") + form + ".bin");
}

TEST(TorchFile, ReadsWhatTorchWrites) {
  for (const char* form : {"zip", "legacy"}) {
    SCOPED_TRACE(form);
    const TorchFile file(small(form));
    EXPECT_EQ(file.tensors().size(), 17u);
    EXPECT_EQ(file.other_entries(), (std::vector<std::string>{"epoch", "rate", "big"}));
    std::vector<float> base, turned, stretched;
    for (int i = 0; i < 24; ++i) base.push_back(static_cast<float>(i) - 3.5f);
    for (int i = 0; i < 24; ++i) turned.push_back(static_cast<float>(i % 4 * 6 + i / 4) - 3.5f);
    for (int i = 0; i < 18; ++i) stretched.push_back(static_cast<float>(12 + i % 6) - 3.5f);
    EXPECT_EQ(floats(file, "whole"), base);
    EXPECT_EQ(floats(file, "part"), std::vector<float>(base.begin() + 6, base.begin() + 18));
    EXPECT_EQ(find(file, "turned").description(), "F32 [6, 4]");
    EXPECT_EQ(floats(file, "turned"), turned);
    EXPECT_EQ(floats(file, "column"), (std::vector<float>{-1.5f, 4.5f, 10.5f, 16.5f}));
    EXPECT_EQ(floats(file, "stretched"), stretched);
    EXPECT_EQ(floats(file, "parameter"), std::vector<float>(base.begin() + 18, base.end()));
    EXPECT_EQ(find(file, "scalar").description(), "F32 []");
    EXPECT_EQ(floats(file, "scalar"), std::vector<float>{7.5f});
    EXPECT_EQ(find(file, "empty").description(), "F32 [0, 3]");
    EXPECT_EQ(find(file, "half").dtype, "F16");
    EXPECT_EQ(floats(file, "half"), (std::vector<float>{1.5f, -2.25f}));
    EXPECT_EQ(find(file, "brain").dtype, "BF16");
    EXPECT_EQ(floats(file, "brain"), (std::vector<float>{1.5f, -2.5f}));
    EXPECT_EQ(values<double>(find(file, "double")), std::vector<double>{0.1});
    EXPECT_EQ(values<std::int64_t>(find(file, "ids")), (std::vector<std::int64_t>{-1, std::int64_t{1} << 40}));
    EXPECT_EQ(values<std::int32_t>(find(file, "int")), std::vector<std::int32_t>{-5});
    EXPECT_EQ(values<std::int16_t>(find(file, "short")), std::vector<std::int16_t>{-6});
    EXPECT_EQ(values<std::int8_t>(find(file, "char")), std::vector<std::int8_t>{-7});
    EXPECT_EQ(values<std::uint8_t>(find(file, "byte")), std::vector<std::uint8_t>{200});
    EXPECT_EQ(find(file, "flag").description(), "BOOL [2]");
    EXPECT_EQ(values<std::uint8_t>(find(file, "flag")), (std::vector<std::uint8_t>{1, 0}));
  }
}

TEST(TorchFile, RefusesEveryTruncation) {
  for (const char* form : {"zip", "legacy"}) {
    const std::string whole = read_file(small(form));
    ASSERT_EQ(torch_file_complaint(whole), "");
    for (std::size_t size = 0; size < whole.size(); ++size)
      EXPECT_NE(torch_file_complaint(whole.substr(0, size)), "") << size;
  }
}

// Any byte may be wrong: whatever comes of it is an Error or tensors, never a crash.
TEST(TorchFile, SurvivesEveryWrongByte) {
  for (const char* form : {"zip", "legacy"}) {
    std::string bytes = read_file(small(form));
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      const char right = std::exchange(bytes[i], static_cast<char>(bytes[i] ^ (i % 2 == 0 ? 0xff : 1 << i / 2 % 8)));
      torch_file_complaint(bytes);
      bytes[i] = right;
    }
  }
}

TEST(TorchFile, RefusesWrongDataByItsCrc) {
  std::string bytes = read_file(small("zip"));
  const std::size_t at = bytes.find(raw(-3.5f) + raw(-2.5f));
  ASSERT_NE(at, bytes.npos);
  bytes[at] = 1;
  EXPECT_CONTAINS(torch_file_complaint(bytes), "CRC");
}

TEST(TorchPickle, IsReadAsDictOfTensors) {
  EXPECT_EQ(complaint_of(dict(text("t") + kTensor)), "");
  EXPECT_EQ(complaint_of(dict(text("model") + dict(text("state_dict") + dict(text("t") + kTensor)))), "");
  EXPECT_EQ(complaint_of(dict(text("model_state_dict") + dict(text("t") + kTensor) + text("optimizer_state_dict") +
                              dict(text("state") + dict("")))),
            "");
  EXPECT_CONTAINS(complaint_of(kTensor), "a tensor, a dict of tensors was expected");
  EXPECT_CONTAINS(complaint_of(dict(text("epoch") + number(3))),
                  "a dict of 1 without a tensor in it, or a dict of tensors as state_dict, model_state_dict, model");
  EXPECT_CONTAINS(complaint_of(dict(text("t") + kTensor + text("t") + kTensor)), "\"t\" stands there twice");
  const std::string put = op("q", raw('\0')), get = op("h", raw('\0'));
  EXPECT_CONTAINS(complaint_of(dict(text("x") + put + "N" + text("t") + put + kTensor + get + "N")),
                  "\"t\" stands there twice");
  EXPECT_CONTAINS(complaint_of(dict(number(1) + kTensor)), "the integer 1 where a name was expected");
  EXPECT_CONTAINS(complaint_of(dict(text("model") + dict("") + text("state_dict") + dict(""))), "one was expected");
  std::string nested = dict(text("t") + kTensor);
  for (int i = 0; i < 3; ++i) nested = dict(text("model") + nested);
  EXPECT_EQ(complaint_of(nested), "");
  EXPECT_CONTAINS(complaint_of(dict(text("model") + nested)), "dicts nested deeper than 4");
  // The dict itself is its entry "model".
  EXPECT_CONTAINS(complaint_of("}" + put + "(" + text("model") + get + "u"), "nested deeper");
}

TEST(TorchPickle, NamesWhatIsNoTensor) {
  const TemporaryDirectory directory;
  write_file(directory / "x", legacy(dict(text("epoch") + number(3) + text("t") + kTensor)));
  const TorchFile file(directory / "x");
  EXPECT_EQ(file.tensors().size(), 1u);
  EXPECT_EQ(file.other_entries(), std::vector<std::string>{"epoch"});
}

TEST(TorchPickle, RefusesCodeByName) {
  const auto at_start = [](const std::string& opcodes) { return complaint_of(opcodes); };
  EXPECT_CONTAINS(at_start("cos\nsystem\n" + tuple(text("id")) + "R"), "opcode GLOBAL at 2: the global os.system is");
  EXPECT_CONTAINS(at_start("cbuiltins\neval\n" + tuple(text("1")) + "R"), "the global builtins.eval is refused");
  // A whole model.
  EXPECT_CONTAINS(at_start("ctorch.nn.modules.linear\nLinear\n)R"),
                  "expected what torch.save(model.state_dict(), FILE)");
  EXPECT_CONTAINS(at_start("c__builtin__\neval\n"), "__builtin__.eval");
  EXPECT_CONTAINS(at_start("ctorch._utils\n_rebuild_tensor\n"), "torch._utils._rebuild_tensor is refused");
  EXPECT_CONTAINS(at_start("ctorch\nFloatStorage.__reduce__\n"), "is refused");
  EXPECT_CONTAINS(at_start(op("c", std::string(1000, 'a')) + "\nb\n"), "a name that does not end");
  EXPECT_CONTAINS(at_start(text("os") + text("system") + "\x93"), "opcode STACK_GLOBAL at");
  EXPECT_CONTAINS(at_start("(S'id'\nios\nsystem\n"), "opcode STRING at 3");
  EXPECT_CONTAINS(at_start("(ios\nsystem\n"), "opcode INST at 3: is refused");
  EXPECT_CONTAINS(at_start("(" + kNoHooks + "o"), "opcode OBJ");
  EXPECT_CONTAINS(at_start(kFloats + ")\x81"), "opcode NEWOBJ");
  EXPECT_CONTAINS(at_start("\x82\x01"), "opcode EXT1");
  EXPECT_CONTAINS(at_start(kNoHooks + "0"), "opcode POP at");
  EXPECT_CONTAINS(at_start("\xfe"), "opcode 0xfe at 2");
  EXPECT_CONTAINS(at_start(kFloats + ")R"), "torch.FloatStorage is called, but is no function");
  EXPECT_CONTAINS(at_start(text("f") + ")R"), "the text \"f\" is called");
  EXPECT_CONTAINS(at_start(kRebuild + "NR"), "a tuple of arguments was expected");
  EXPECT_CONTAINS(at_start("ccollections\nOrderedDict\n(NtR"), "OrderedDict is given 1 arguments");
  EXPECT_CONTAINS(at_start(kTensor + "}b"), "opcode BUILD at");
  EXPECT_CONTAINS(at_start("}" + dict(text("_metadata") + "N") + "b"), "an OrderedDict was expected");
  EXPECT_CONTAINS(at_start(kNoHooks + dict(text("__class__") + "N") + "b"), "_metadata alone");
  EXPECT_CONTAINS(at_start(kNoHooks + dict(text("_metadata") + "N" + text("a") + "N") + "b"), "_metadata alone");
  EXPECT_CONTAINS(torch_file_complaint("\x80\x04."), "protocol 4, expected 2");
  EXPECT_CONTAINS(at_start(kStart + "}"), "opcode PROTO at 2: protocol 2, expected 2 at the start");
}

TEST(TorchPickle, RefusesBrokenNesting) {
  EXPECT_CONTAINS(complaint_of("t"), "opcode TUPLE at 2: no MARK before it");
  EXPECT_CONTAINS(complaint_of("}(" + text("a") + "u"), "a key without a value");
  EXPECT_CONTAINS(complaint_of("}("), "1 values and 1 marks are left");
  EXPECT_CONTAINS(complaint_of("}}"), "2 values and 0 marks are left");
  EXPECT_CONTAINS(complaint_of("}(NNNs"), "opcode SETITEM");
  EXPECT_CONTAINS(complaint_of("N(\x85"), "the stack holds 0 values, 1 were expected");
  EXPECT_CONTAINS(complaint_of("h\x05"), "memo 5 is undefined");
  EXPECT_CONTAINS(complaint_of(op("j", raw(std::uint32_t{0x80000000u}))), "memo 2147483648 is undefined");
  EXPECT_CONTAINS(complaint_of("q\x01"), "the stack is empty");
  EXPECT_CONTAINS(complaint_of("NNa"), "None cannot be filled by it");
  EXPECT_CONTAINS(complaint_of(op("X", raw(std::uint32_t{0x80000000u}))), "2147483648 bytes were expected");
  EXPECT_CONTAINS(torch_file_complaint(kStart), "cut short, an opcode was expected at 2");
  const std::string eight_mebibytes = text(std::string((8 << 20) - kStart.size() - text("").size(), 'a'));
  EXPECT_CONTAINS(complaint_of(eight_mebibytes), "the pickle has no STOP in its first 8 MiB");
  EXPECT_CONTAINS(complaint_of(std::string(1 << 20, '(')), "more than 262144 marks");
  std::string same = op("}q", raw('\0'));
  for (int i = 0; i < 1 << 18; ++i) same += op("h", raw('\0'));
  EXPECT_CONTAINS(complaint_of(same), "more than 262144 values on the stack");
  std::string keys = "}";
  for (std::uint32_t key = 0; key <= 1 << 18; ++key) keys += op("r", raw(key));
  EXPECT_CONTAINS(complaint_of(keys), "more than 262144 values in the memo");
  EXPECT_CONTAINS(complaint_of(std::string(1 << 20, '}')), "more than 262144 values");
  EXPECT_CONTAINS(complaint_of(op("N", std::string(9 << 20, '\x85'))), "more than 262144 values");
}

TEST(TorchTensor, MustLieInItsStorage) {
  const std::string one = number(1), huge = number(INT64_MAX), most = number(std::int64_t{1} << 62);
  EXPECT_EQ(complaint_of(5, one, one), "");
  EXPECT_EQ(complaint_of(5, one, huge), "") << "a stride that nobody walks";
  EXPECT_EQ(complaint_of(6, number(0), one), "");
  EXPECT_CONTAINS(complaint_of(6, one, one),
                  "tensor t: [1] with strides [0] and offset 6 ends outside its storage of 6");
  EXPECT_CONTAINS(complaint_of(7, number(0), one), "ends outside");
  EXPECT_CONTAINS(complaint_of(0, number(7), one), "ends outside");
  EXPECT_CONTAINS(complaint_of(0, number(2), number(6)), "ends outside");
  EXPECT_CONTAINS(complaint_of(-1, one, one), "a tensor's offset is the integer -1, expected 0 to");
  EXPECT_CONTAINS(complaint_of(0, number(-1), one), "a tensor's shape is the integer -1");
  EXPECT_CONTAINS(complaint_of(0, op("\x8a\x01", "\xff"), one), "a tensor's shape is the integer -1");
  EXPECT_CONTAINS(complaint_of(0, op("J", raw(std::int32_t{-1})), one), "a tensor's shape is the integer -1");
  EXPECT_CONTAINS(complaint_of(0, number(2), number(-1)), "a tensor's strides is the integer -1");
  EXPECT_CONTAINS(complaint_of(INT64_MAX, number(2), one), "more than can be counted");
  EXPECT_CONTAINS(complaint_of(0, number(2) + number(2), huge + huge), "more than can be counted");
  EXPECT_CONTAINS(complaint_of(0, most + number(4), number(0) + number(0)), "more than can be counted");
  EXPECT_CONTAINS(complaint_of(0, most, number(0)), "more than can be counted");  // its bytes
  EXPECT_CONTAINS(complaint_of(0, number(std::int64_t{1} << 40), number(0)), "with it the tensors take more than");
  const std::string wide = tensor(storage(kElements), 0, number(9 << 20), number(0));  // 36 MiB of the 64 and some
  EXPECT_EQ(complaint_of(dict(text("a") + wide)), "");
  EXPECT_CONTAINS(complaint_of(dict(text("a") + wide + text("b") + wide)), "tensor b: with it the tensors take more");
  EXPECT_CONTAINS(complaint_of(0, op("\x8a\x0a", std::string(10, '\x01')), one), "more than 64 bits");
  EXPECT_CONTAINS(complaint_of(0, text("a"), one), "the text \"a\" where a tensor's shape was expected");
  EXPECT_CONTAINS(complaint_of(0, one, one + one), "1 dimensions and 2 strides");
  std::string many;
  for (int i = 0; i < 65; ++i) many += one;
  EXPECT_CONTAINS(complaint_of(0, many, many), "65 dimensions");
}

TEST(TorchTensor, MustBeAsItsFunctionHasIt) {
  const auto of = [](const std::string& rest) {
    return complaint_of(dict(text("t") + tensor(storage(kElements), 0, number(1), number(1), rest)));
  };
  EXPECT_EQ(of("\x89" + kNoHooks + "N"), "");
  EXPECT_EQ(of("\x89" + kNoHooks + "}"), "");
  EXPECT_CONTAINS(of("\x89" + kNoHooks + dict(text("neg") + "\x88")), "a tensor's metadata are a dict of 1");
  EXPECT_CONTAINS(of("\x89"), "a tensor of 5 arguments");
  EXPECT_CONTAINS(of("\x89" + kNoHooks + "NN"), "a tensor of 8 arguments");
  EXPECT_CONTAINS(of("\x89" + kNoHooks + "NNN"), "torch._utils._rebuild_tensor_v2 is given 9 arguments");
  EXPECT_CONTAINS(of("N" + kNoHooks), "None where requires_grad was expected");
  EXPECT_CONTAINS(of(op("\x89", dict(text("a") + "N"))), "hooks are a dict of 1, expected none");
  const auto parameter = [](const std::string& data, const std::string& rest = "\x88" + kNoHooks) {
    return complaint_of(dict(text("t") + "ctorch._utils\n_rebuild_parameter\n" + tuple(data + rest) + "R"));
  };
  EXPECT_EQ(parameter(kTensor), "");
  EXPECT_CONTAINS(parameter(kTensor, "\x88" + kNoHooks + "N"), "a parameter of 4 arguments, expected 3");
  EXPECT_CONTAINS(parameter(kTensor, "N" + kNoHooks), "None where requires_grad was expected");
  EXPECT_CONTAINS(parameter(kTensor, "\x88N"), "hooks are None, expected none");
  EXPECT_CONTAINS(parameter("N"), "a parameter of None, a tensor was expected");
  const auto with_state = [](const std::string& state) {
    const std::string arguments = tuple(kTensor + "\x88" + kNoHooks + state);
    return complaint_of(dict(text("t") + "ctorch._utils\n_rebuild_parameter_with_state\n" + arguments + "R"));
  };
  EXPECT_EQ(with_state(dict(text("_is_hf_initialized") + "\x88")), "");
  EXPECT_CONTAINS(with_state(""), "a parameter of 3 arguments, expected 4");
  EXPECT_CONTAINS(with_state("N"), "None where a parameter's attributes was expected");
  EXPECT_CONTAINS(with_state(dict(text("f") + "cos\nsystem\n")), "os.system");
}

TEST(TorchStorage, MustBeAsItIsDescribed) {
  const auto of = [](const std::string& stored) {
    return complaint_of(dict(text("t") + tensor(stored, 0, number(2), number(1))));
  };
  EXPECT_EQ(of(storage(kElements, tuple(text("v") + number(4) + number(2)))), "");
  EXPECT_CONTAINS(of(storage(kElements, tuple(text("v") + number(5) + number(1)))), "ends outside its storage of 1");
  EXPECT_CONTAINS(of(storage(kElements, tuple(text("v") + number(5) + number(2)))), "a view of 2 elements from 5");
  EXPECT_CONTAINS(of(storage(kElements, tuple(text("v") + number(INT64_MAX) + number(2)))), "a view of 2");
  EXPECT_CONTAINS(of(storage(kElements + 1)), "storage 0 has 6 elements, but the pickle says 7");
  EXPECT_CONTAINS(of(storage(INT64_MAX)), "more bytes than can be counted");
  EXPECT_CONTAINS(of(storage(-1)), "a storage's size is the integer -1");
  EXPECT_CONTAINS(of(storage(kElements, "N", kNoHooks)), "a dict of 0 where a storage's type was expected");
  EXPECT_CONTAINS(of(storage(kElements, "N", kRebuild)), "is no type of a storage");
  EXPECT_CONTAINS(of(storage(kElements, "N", kFloats, "1")), "storage 0 belongs to no tensor");
  EXPECT_CONTAINS(of(storage(kElements, "")), "described by 5 values, expected 6");
  EXPECT_CONTAINS(of(storage(kElements, "NN")), "described by 7 values, expected 6");
  EXPECT_CONTAINS(of(storage(kElements, tuple(text("v") + number(4) + number(2) + "N"))),
                  "a view is described by 4 values, expected 3");
  const auto described = [&](const std::string& tag, const std::string& key, const std::string& location) {
    return of(tuple(tag + kFloats + key + location + number(kElements) + "N") + "Q");
  };
  EXPECT_EQ(described(text("storage"), text("0"), text("cpu")), "");
  EXPECT_CONTAINS(described(text("module"), text("0"), text("cpu")), "the text \"module\" where \"storage\"");
  EXPECT_CONTAINS(described(text("storage"), number(0), text("cpu")), "where a storage's key was expected");
  EXPECT_CONTAINS(described(text("storage"), text("0"), "N"), "None where a storage's location was expected");
  EXPECT_CONTAINS(of("N"), "None where a storage was expected");
  EXPECT_CONTAINS(of("NQ"), "None where a storage's description was expected");
  const std::string whole = tensor(storage(kElements), 0, number(6), number(1));
  const std::string other = tensor(storage(kElements, "N", "ctorch\nIntStorage\n"), 0, number(6), number(1));
  EXPECT_CONTAINS(complaint_of(dict(text("a") + whole + text("b") + other)), "storage 0 is 6 F32 and 6 I32");
}

// PyTorch wrote them before version 0.4.
TEST(TorchStorage, OfAViewBeginsWhereTheViewDoes) {
  const TemporaryDirectory directory;
  const std::string view = tuple(text("v") + number(2) + number(4)), shape = number(2);
  write_file(directory / "x", legacy(dict(text("all") + kTensor + text("from 2") +
                                          tensor(storage(kElements, view), 0, shape, number(1)) + text("from 3") +
                                          tensor(storage(kElements, view), 1, shape, number(2)))));
  const TorchFile file(directory / "x");
  EXPECT_EQ(floats(file, "from 2"), (std::vector<float>{2, 3}));
  EXPECT_EQ(floats(file, "from 3"), (std::vector<float>{3, 5}));
}

TEST(TorchLegacy, MustHoldItsStorages) {
  const std::string pickle = dict(text("t") + kTensor);
  EXPECT_CONTAINS(torch_file_complaint(legacy(pickle, kKeys, "\x89")), "the byte order is not little-endian");
  EXPECT_CONTAINS(torch_file_complaint(legacy(pickle, kStart + "].")), "bytes after the last storage");
  EXPECT_CONTAINS(torch_file_complaint(legacy(pickle, kKeys, "\x88", std::int64_t{1} << 62)), "but the pickle says 6");
  EXPECT_CONTAINS(torch_file_complaint(legacy(pickle) + "x"), "1 bytes after the last storage");
  const std::string no_keys = legacy(pickle, kStart + "].");
  EXPECT_CONTAINS(torch_file_complaint(no_keys.substr(0, no_keys.size() - 32)), "storage 0 is missing");
  EXPECT_CONTAINS(torch_file_complaint(legacy(pickle, kStart + "}.")), "where a list of storages was expected");
  EXPECT_CONTAINS(torch_file_complaint(legacy(pickle, kStart + "](" + number(0) + "e.")), "where a storage's key was");
  const std::string twice = legacy(pickle, kStart + "](" + text("0") + text("0") + "e.");
  EXPECT_CONTAINS(torch_file_complaint(twice + twice.substr(twice.size() - 32)), "storage 0 stands there twice");
  EXPECT_CONTAINS(torch_file_complaint(kStart + "N."), "its first pickle is no magic number");
  const std::string magic = twice.substr(0, twice.find('.') + 1);
  EXPECT_CONTAINS(torch_file_complaint(magic + "N."), "opcode NONE at 0: a pickle of protocol 2 was expected");
  EXPECT_CONTAINS(torch_file_complaint(magic + kStart + op("M", raw(std::uint16_t{1000})) + "."),
                  "the version is the integer 1000, expected 1001");
  const std::string version = kStart + op("M", raw(std::uint16_t{1001})) + ".";
  EXPECT_CONTAINS(torch_file_complaint(magic + version + kStart + "N."), "None where a dict was expected");
}

TEST(TorchData, HasTheValuesThatPyTorchReads) {
  const fs::path directory = shared_dir() / "checkpoints/torch-reader";
  EMBER_NEEDS_DATA(directory);
  using Values = std::vector<float>;
  EXPECT_EQ(floats(TorchFile(directory / "burn_bfloat16.pt"), "tensor"), (Values{1.5f, -2.5f, 3.5f}));
  EXPECT_EQ(floats(TorchFile(directory / "burn_float16.pt"), "tensor"), (Values{1.5f, -2.25f, 3.125f}));
  EXPECT_EQ(floats(TorchFile(directory / "burn_float32.pt"), "tensor"), (Values{1.0f, 2.5f, -3.7f, 0.0f}));
  const TorchFile offsets(directory / "burn_legacy_with_offsets.pt");
  EXPECT_EQ(floats(offsets, "tensor1"), (Values{1.0f, 1.0099999904632568f, 1.0199999809265137f, 1.0299999713897705f,
                                                1.0399999618530273f, 1.0499999523162842f, 1.059999942779541f,
                                                1.0699999332427979f, 1.0800000429153442f, 1.090000033378601f}));
  EXPECT_EQ(floats(offsets, "tensor2"),
            (Values{2.0f, 2.0999999046325684f, 2.200000047683716f, 2.299999952316284f, 2.4000000953674316f}));
  EXPECT_EQ(floats(offsets, "tensor3"),
            (Values{3.0f, 3.0999999046325684f, 3.200000047683716f, 3.299999952316284f, 3.4000000953674316f}));
  const TorchFile strided(directory / "burn_non_contiguous.pt");
  EXPECT_EQ(find(strided, "permuted").description(), "F32 [2, 4, 3]");
  EXPECT_EQ(floats(strided, "permuted"),
            (Values{5, 9, 13, 6, 10, 14, 7, 11, 15, 8, 12, 16, 17, 21, 25, 18, 22, 26, 19, 23, 27, 20, 24, 28}));
  EXPECT_EQ(floats(strided, "expanded"), (Values{1, 2, 3, 1, 2, 3}));
  EXPECT_EQ(
      floats(TorchFile(directory / "burn_parameter.pt"), "param"),
      (Values{1.024911880493164f, 0.22231829166412354f, -0.738072395324707f, -0.9258294701576233f, -1.351651906967163f,
              1.0651453733444214f, 0.19967511296272278f, -0.7578960657119751f, -0.8965914845466614f}));
  const TorchFile simple(directory / "burn_simple_legacy.pt");
  EXPECT_EQ(floats(simple, "weight"), (Values{-1.8129550218582153f, 1.1972813606262207f, -1.259395956993103f,
                                              -0.6564881801605225f, -1.478874921798706f, 2.087892770767212f}));
  EXPECT_EQ(floats(simple, "bias"), (Values{1, 1}));
  EXPECT_EQ(floats(simple, "running_mean"), (Values{0, 0}));
  const TorchFile state(directory / "burn_state_dict.pt");
  EXPECT_EQ(find(state, "weight").description(), "F32 [3, 4]");
  EXPECT_EQ(floats(state, "bias"), (Values{1.1351022720336914f, 0.7592452168464661f, -3.594468832015991f}));
  EXPECT_EQ(floats(state, "running_var"), (Values{1, 1, 1}));
  EXPECT_CONTAINS(torch_file_complaint(read_file(directory / "burn_broken.pt")), "neither a zip file nor a pickle");
  EXPECT_CONTAINS(torch_file_complaint(read_file(directory / "burn_tar_float32.tar")), "the tar form");
}

TEST(TorchData, EqualsTheSafetensorsOfTheSameWeights) {
  const fs::path directory = shared_dir() / "checkpoints";
  EMBER_NEEDS_DATA(directory);
  const TorchFile torch(directory / "labse_2_Dense_pytorch_model.bin");
  const SafetensorsFile safetensors(directory / "labse_2_Dense_model.safetensors");
  ASSERT_EQ(torch.tensors().size(), safetensors.tensors().size());
  for (const StoredTensor& tensor : torch.tensors()) {
    const StoredTensor* twin = safetensors.find(tensor.name);
    ASSERT_NE(twin, nullptr) << tensor.name;
    EXPECT_EQ(tensor.description(), twin->description());
    EXPECT_TRUE(std::equal(tensor.bytes.begin(), tensor.bytes.end(), twin->bytes.begin(), twin->bytes.end()));
  }
}

TEST(TorchData, ReadsWholeModels) {
  const fs::path directory = shared_dir() / "checkpoints";
  EMBER_NEEDS_DATA(directory);
  const TorchFile bert(directory / "fastnlp_small_bert_v1.bin");
  EXPECT_EQ(bert.tensors().size(), 39u);
  const std::vector<float> words = floats(bert, "bert.embeddings.word_embeddings.weight");
  EXPECT_EQ(words[0], 0.01799473911523819f);
  EXPECT_EQ(words[2], 0.02780395932495594f);
  const TorchFile tied(directory / "tinypellm_pytorch_model.bin");
  const StoredTensor embedding = find(tied, "model.embed_tokens.weight"), head = find(tied, "lm_head.weight");
  EXPECT_EQ(embedding.bytes.data(), head.bytes.data()) << "tied tensors share their storage";
  EXPECT_EQ(head.description(), "F32 [3000, 128]");
}

}  // namespace
}  // namespace ember
