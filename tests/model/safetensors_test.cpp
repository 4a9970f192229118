#include "model/safetensors.h"

#include <fmt/format.h>

#include <bit>
#include <fstream>
#include <limits>

#include "runtime/error.h"
#include "tests/support.h"

namespace ember {
namespace {

using testing::shared_dir;
using testing::TemporaryDirectory;

std::string little_endian(std::uint64_t value) {
  std::string bytes(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) bytes[i] = static_cast<char>(value >> (8 * i));
  return bytes;
}

// A file with this header and so many bytes of data: 0, 1, 2, ...
std::string image(const std::string& header, std::size_t data_bytes) {
  std::string bytes = little_endian(header.size()) + header;
  for (std::size_t i = 0; i < data_bytes; ++i) bytes += static_cast<char>(i);
  return bytes;
}

// What the reader says about a file of these bytes; empty when it takes it.
std::string safetensors_complaint(const std::string& bytes) {
  const TemporaryDirectory directory;
  const auto path = directory / "x";
  std::ofstream(path, std::ios::binary) << bytes;
  return testing::error_about(path.string() + ": ", [&] { const SafetensorsFile file(path); });
}

// A header with one tensor `t` of 8 bytes, parts of which a test replaces.
struct Header {
  std::string dtype = R"("F32")", shape = "[2]", offsets = "[0,8]";
  std::string text() const {
    return R"({"t":{"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
  }
};

std::string safetensors_complaint(const Header& header) {
  return safetensors_complaint(image(header.text(), 8));
}

TEST(SafetensorsReader, ReadsTensorsMetadataAndPadding) {
  const std::string header =
      R"({ "b" : {"data_offsets":[8,14],"shape":[3,1],"dtype":"BF16"},)"
      R"("__metadata__":{"format":"pt","\u00e9":""}, "a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
      R"("scalar":{"dtype":"U8","shape":[],"data_offsets":[14,15]},"none":{"dtype":"F64","shape":[0,7],"data_offsets":[8,8]}}   )";
  const TemporaryDirectory directory;
  std::ofstream(directory / "x", std::ios::binary) << image(header, 15);
  const SafetensorsFile file(directory / "x");
  EXPECT_EQ(file.path(), directory / "x");
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"format", "pt"}, {"\u00e9", ""}}));
  ASSERT_EQ(file.tensors().size(), 4u);
  EXPECT_EQ(file.tensors()[0].name, "a");
  EXPECT_EQ(file.tensors()[1].name, "none");
  EXPECT_EQ(file.tensors()[2].name, "b");
  EXPECT_EQ(file.find("c"), nullptr);
  const StoredTensor* b = file.find("b");
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(b->description(), "BF16 [3, 1]");
  EXPECT_EQ(b->elements(), 3);
  ASSERT_EQ(b->bytes.size(), 6u);
  EXPECT_EQ(static_cast<int>(b->bytes[0]), 8);
  EXPECT_EQ(file.find("scalar")->elements(), 1);
  EXPECT_EQ(file.find("scalar")->description(), "U8 []");
  EXPECT_EQ(file.find("none")->elements(), 0);
}

TEST(SafetensorsReader, TakesAFileWithoutTensors) {
  EXPECT_EQ(safetensors_complaint(image("{}", 0)), "");
  EXPECT_EQ(safetensors_complaint(image("{}      ", 0)), "");
  EXPECT_CONTAINS(safetensors_complaint(image("{}", 1)), "1 bytes after the last tensor");
}

TEST(SafetensorsReader, ChecksTheLengthOfTheHeader) {
  EXPECT_CONTAINS(safetensors_complaint(std::string("")), "too short");
  EXPECT_CONTAINS(safetensors_complaint(std::string(7, '\0')), "too short");
  EXPECT_CONTAINS(safetensors_complaint(little_endian(0)), "does not start with {");
  EXPECT_CONTAINS(safetensors_complaint(little_endian(3) + "{}"), "cut short");
  EXPECT_CONTAINS(safetensors_complaint(little_endian(100'000'000) + "{}"), "cut short");
  EXPECT_CONTAINS(safetensors_complaint(little_endian(100'000'001) + "{}"), "at most 100000000");
  EXPECT_CONTAINS(safetensors_complaint(little_endian(~std::uint64_t{0}) + "{}"), "at most 100000000");
  EXPECT_CONTAINS(safetensors_complaint(little_endian(~std::uint64_t{0} - 7) + "{}"), "at most 100000000");
}

TEST(SafetensorsReader, ChecksWhereTheHeaderStartsAndEnds) {
  EXPECT_CONTAINS(safetensors_complaint(image(" {}", 0)), "does not start with {");
  EXPECT_CONTAINS(safetensors_complaint(image("\xEF\xBB\xBF{}", 0)), "does not start with {");
  EXPECT_CONTAINS(safetensors_complaint(image("[]", 0)), "does not start with {");
  EXPECT_CONTAINS(safetensors_complaint(image("{}\n", 0)), "does not end with } and spaces");
  EXPECT_CONTAINS(safetensors_complaint(image(std::string("{}\0}", 4), 0)), "NUL");
  EXPECT_CONTAINS(safetensors_complaint(image("{}{}", 0)), "not JSON");
  EXPECT_CONTAINS(safetensors_complaint(image("{", 0)), "does not end with }");
  EXPECT_CONTAINS(safetensors_complaint(image(R"({"t}})", 0)), "not JSON");
  EXPECT_CONTAINS(safetensors_complaint(image(R"({"t":{"dtype":"F32",}})", 8)), "not JSON");
  EXPECT_CONTAINS(safetensors_complaint(image("{\"\xFF\":{}}", 0)), "not JSON");  // not UTF-8
  EXPECT_CONTAINS(safetensors_complaint(image("{/**/}", 0)), "not JSON");
}

TEST(SafetensorsReader, RefusesLongerStringsAndNumbersThanAnyTensorNeeds) {
  const auto of_metadata = [](const std::string& value) {
    return safetensors_complaint(image("{\"__metadata__\":{\"a\":\"" + value + "\"}}", 0));
  };
  const std::string most(65536, 'x');
  EXPECT_EQ(of_metadata(most), "");
  EXPECT_EQ(of_metadata(most + "x"), "header: a string or number of more than 65536 bytes at 30");
  EXPECT_EQ(of_metadata("\\\"" + most), "header: a string or number of more than 65536 bytes at 30");
  EXPECT_CONTAINS(safetensors_complaint(Header{.shape = "[" + std::string(65537, '1') + "]"}), "more than 65536 bytes");
}

TEST(SafetensorsReader, RefusesMoreTensorsAndKeysThanAnyModelHas) {
  const auto of = [](int count, const std::string& value, const std::string& start = "{") {
    std::string header = start;
    for (int i = 0; i < count; ++i) header += fmt::format("{}\"{}\":{}", i == 0 ? "" : ",", i, value);
    return safetensors_complaint(image(header + (start == "{" ? "}" : "}}"), 0));
  };
  const std::string empty = R"({"dtype":"U8","shape":[0],"data_offsets":[0,0]})", metadata = "{\"__metadata__\":{";
  EXPECT_EQ(of(65536, empty), "");
  EXPECT_EQ(of(65537, empty), "header: more than 65536 tensors");
  EXPECT_EQ(of(65536, "\"\"", metadata), "");
  EXPECT_EQ(of(65537, "\"\"", metadata), "header: __metadata__ has more than 65536 keys");
}

TEST(SafetensorsReader, RefusesRepeatedKeysAtEveryLevel) {
  const std::string entry = R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  EXPECT_CONTAINS(safetensors_complaint(image(R"({"t":)" + entry + R"(,"t":)" + entry + "}", 4)),
                  "\"t\" stands there twice");
  EXPECT_CONTAINS(safetensors_complaint(image(R"({"t":)" + entry + R"(,"\u0074":)" + entry + "}", 4)),
                  "\"t\" stands there twice");
  EXPECT_CONTAINS(safetensors_complaint(image(R"({"__metadata__":{},"__metadata__":{}})", 0)), "twice");
  EXPECT_CONTAINS(safetensors_complaint(image(R"({"__metadata__":{"a":"1","a":"2"}})", 0)),
                  "__metadata__: key \"a\" stands there twice");
  for (const char* member : {R"("dtype":"F32")", R"("shape":[1])", R"("data_offsets":[0,4])"})
    EXPECT_CONTAINS(safetensors_complaint(image(R"({"t":{)" + std::string(member) + "," + entry.substr(1) + "}", 4)),
                    "twice");
}

TEST(SafetensorsReader, RefusesWrongTypes) {
  EXPECT_EQ(safetensors_complaint(Header{}), "");
  for (const char* wrong : {"null", "3", "[]", "{}", "true", "1.5"}) {
    EXPECT_CONTAINS(safetensors_complaint(Header{.dtype = wrong}), "tensor t: ");
    EXPECT_CONTAINS(safetensors_complaint(Header{.dtype = wrong}), "where a string was expected");
  }
  for (const char* wrong : {"null", "2", "{}", "false", "\"2\""}) {
    EXPECT_CONTAINS(safetensors_complaint(Header{.shape = wrong}), "where an array was expected");
    EXPECT_CONTAINS(safetensors_complaint(Header{.offsets = wrong}), "where an array was expected");
  }
  for (const char* wrong : {"[-2]", "[2.0]", "[\"2\"]", "[[2]]", "[null]", "[true]", "[{}]", "[2e0]", "[-0]",
                            "[18446744073709551616]", "[1e999]"})
    EXPECT_NE(safetensors_complaint(Header{.shape = wrong}), "") << wrong;
  for (const char* wrong : {"[-0,8]", "[0,8.0]", "[0]", "[0,8,8]", "[]", "[0,-8]", "[\"0\",8]", "[null,8]"})
    EXPECT_NE(safetensors_complaint(Header{.offsets = wrong}), "") << wrong;
  for (const char* wrong : {"null", "[]", "\"x\"", "1", "true"}) {
    EXPECT_CONTAINS(safetensors_complaint(image(R"({"t":)" + std::string(wrong) + "}", 0)),
                    "where an object was expected");
    EXPECT_CONTAINS(safetensors_complaint(image(R"({"__metadata__":)" + std::string(wrong) + "}", 0)),
                    "where an object was expected");
  }
  for (const char* wrong : {"null", "1", "{}", "[]", "true"})
    EXPECT_CONTAINS(safetensors_complaint(image(R"({"__metadata__":{"a":)" + std::string(wrong) + "}}", 0)),
                    "__metadata__: ");
}

TEST(SafetensorsReader, RefusesMissingAndUnknownKeys) {
  EXPECT_CONTAINS(safetensors_complaint(image(R"({"t":{}})", 0)), "tensor t: dtype is missing");
  EXPECT_CONTAINS(safetensors_complaint(image(R"({"t":{"dtype":"F32","data_offsets":[0,8]}})", 8)),
                  "tensor t: shape is missing");
  EXPECT_CONTAINS(safetensors_complaint(image(R"({"t":{"dtype":"F32","shape":[2]}})", 8)),
                  "tensor t: data_offsets is missing");
  EXPECT_CONTAINS(safetensors_complaint(image(R"({"t":{"dtype":"F32","shape":[2],"strides":[1]}})", 8)),
                  "unknown key \"strides\"");
  EXPECT_CONTAINS(safetensors_complaint(Header{.dtype = R"("F31")"}), "unknown dtype \"F31\"");
  EXPECT_CONTAINS(safetensors_complaint(Header{.dtype = R"("f32")"}), "unknown dtype \"f32\"");
  EXPECT_CONTAINS(safetensors_complaint(Header{.dtype = R"("F\n32")"}), "unknown dtype \"F\\x0a32\"");
}

TEST(SafetensorsReader, ChecksSizesAgainstOffsets) {
  EXPECT_CONTAINS(safetensors_complaint(Header{.shape = "[3]"}), "F32 [3] takes 12 bytes, but data_offsets span 8");
  EXPECT_CONTAINS(safetensors_complaint(Header{.shape = "[]"}), "F32 [] takes 4 bytes, but data_offsets span 8");
  EXPECT_CONTAINS(safetensors_complaint(Header{.shape = "[0,2]"}), "takes 0 bytes");
  EXPECT_CONTAINS(safetensors_complaint(Header{.offsets = "[8,0]"}), "reversed");
  EXPECT_CONTAINS(safetensors_complaint(Header{.shape = "[4]", .offsets = "[0,16]"}),
                  "end at 16, but the file has 8 bytes");
  EXPECT_CONTAINS(safetensors_complaint(Header{.offsets = "[18446744073709551608,18446744073709551615]"}),
                  "the file has 8 bytes");
}

TEST(SafetensorsReader, ChecksMultiplication) {
  EXPECT_CONTAINS(safetensors_complaint(Header{.shape = "[4294967296,1073741824,4]"}),
                  "more bytes than can be counted");
  EXPECT_CONTAINS(safetensors_complaint(Header{.shape = "[4611686018427387906]"}),
                  "more bytes than can be counted");  // wraps to 8
  EXPECT_CONTAINS(safetensors_complaint(Header{.shape = "[9223372036854775807,9223372036854775807,0]"}),
                  "can be counted");
  EXPECT_CONTAINS(safetensors_complaint(Header{.shape = "[18446744073709551615]"}), "too large");
  EXPECT_CONTAINS(safetensors_complaint(Header{.shape = "[9223372036854775808,0]"}), "too large");
}

// Two tensors of 4 bytes at these offsets in 12 bytes of data.
std::string two(const std::string& a, const std::string& b, std::size_t bytes) {
  const std::string entry = R"({"dtype":"F32","shape":[1],"data_offsets":)";
  return safetensors_complaint(image(R"({"a":)" + entry + a + R"(},"b":)" + entry + b + "}}", bytes));
}

TEST(SafetensorsReader, RefusesHolesOverlapsAndTrailingBytes) {
  EXPECT_EQ(two("[0,4]", "[4,8]", 8), "");
  EXPECT_EQ(two("[4,8]", "[0,4]", 8), "");
  EXPECT_CONTAINS(two("[0,4]", "[8,12]", 12), "tensor b: its data start at 8, expected 4: there is a hole");
  EXPECT_CONTAINS(two("[4,8]", "[8,12]", 12), "tensor a: its data start at 4, expected 0: there is a hole");
  EXPECT_CONTAINS(two("[0,4]", "[2,6]", 8), "tensor b: its data start at 2, expected 4: tensors overlap");
  EXPECT_CONTAINS(two("[0,4]", "[0,4]", 4), "tensors overlap");
  EXPECT_CONTAINS(two("[0,4]", "[4,8]", 9), "1 bytes after the last tensor");
  const std::string empty_inside =
      R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"e":{"dtype":"F32","shape":[0],"data_offsets":[2,2]}})";
  EXPECT_CONTAINS(safetensors_complaint(image(empty_inside, 4)), "tensors overlap");
}

TEST(SafetensorsReader, BoundsTheRank) {
  std::string shape = "[2";
  for (int i = 1; i < 64; ++i) shape += ",1";
  EXPECT_EQ(safetensors_complaint(Header{.shape = shape + "]"}), "");
  EXPECT_CONTAINS(safetensors_complaint(Header{.shape = shape + ",1]"}), "more than 64 dimensions");
}

TEST(SafetensorsReader, DeepNestingDoesNotOverflowTheStack) {
  const std::size_t deep = 5'000'000;
  EXPECT_NE(safetensors_complaint(image(R"({"t":)" + std::string(deep, '[') + std::string(deep, ']') + "}", 0)), "");
  std::string objects;
  for (int i = 0; i < 1'000'000; ++i) objects += R"({"a":)";
  EXPECT_NE(safetensors_complaint(image(objects + "1" + std::string(1'000'000, '}'), 0)), "");
}

TEST(SafetensorsReader, RefusesEveryTruncation) {
  const std::string whole = image(R"({"__metadata__":{"k":"v"},"a":{"dtype":"I64","shape":[2],"data_offsets":[0,16]},)"
                                  R"("b":{"dtype":"F16","shape":[1,3],"data_offsets":[16,22]}} )",
                                  22);
  EXPECT_EQ(safetensors_complaint(whole), "");
  for (std::size_t size = 0; size < whole.size(); ++size)
    EXPECT_NE(safetensors_complaint(whole.substr(0, size)), "") << size;
}

TEST(SafetensorsReader, NamesAFileThatIsNotThere) {
  EXPECT_THROW(SafetensorsFile("/nonexistent/model.safetensors"), Error);
  EXPECT_THROW(SafetensorsFile("/"), Error);
}

TEST(CopyToF32, RoundsOnce) {
  const auto converted = [](const std::string& dtype, const auto& values) {
    const auto bytes = std::as_bytes(std::span(values));
    std::vector<std::byte> shifted(bytes.size() + 1);  // as unaligned as a file may have them
    std::copy(bytes.begin(), bytes.end(), shifted.begin() + 1);
    const StoredTensor tensor{"t", dtype, {static_cast<std::int64_t>(values.size())}, std::span(shifted).subspan(1)};
    std::vector<float> out(values.size());
    copy_to_f32(tensor, out.data());
    return out;
  };
  const float infinity = std::numeric_limits<float>::infinity();

  const std::vector<float> floats{1.5f, -0.0f, 1e-45f, infinity};
  EXPECT_EQ(converted("F32", floats), floats);
  // Ties go to even; one bit above a tie goes up.
  EXPECT_EQ(
      converted("F64", std::vector<double>{0.1, 1 + 0x1p-24, 1 + 0x3p-24, 1 + 0x1p-24 + 0x1p-50, 1e300, -0x1p-149}),
      (std::vector<float>{0.1f, 1.0f, 1 + 0x1p-22f, 1 + 0x1p-23f, infinity, -0x1p-149f}));
  EXPECT_EQ(converted("F16", std::vector<std::uint16_t>{0x3C00, 0xC000, 0x7BFF, 0x0400, 0x0001, 0x83FF, 0x8000, 0x7C00,
                                                        0xFC00, 0x3555}),
            (std::vector<float>{1, -2, 65504, 0x1p-14f, 0x1p-24f, -1023 * 0x1p-24f, -0.0f, infinity, -infinity,
                                0x1.554p-2f}));
  EXPECT_TRUE(std::isnan(converted("F16", std::vector<std::uint16_t>{0x7E01})[0]));
  EXPECT_TRUE(std::signbit(converted("F16", std::vector<std::uint16_t>{0x8000})[0]));
  EXPECT_EQ(converted("BF16", std::vector<std::uint16_t>{0x3F80, 0xC000, 0x0001, 0x7F80, 0x3DCD}),
            (std::vector<float>{1, -2, 0x1p-133f, infinity, std::bit_cast<float>(0x3DCD0000u)}));
}

TEST(CopyToF32, RefusesWhatIsNotFloating) {
  const std::vector<std::byte> bytes(8);
  float out[8];
  for (const char* dtype : {"I64", "U8", "BOOL", "F8_E4M3", "C64"}) {
    const StoredTensor tensor{"ids", dtype, {1}, bytes};
    EXPECT_THROW(copy_to_f32(tensor, out), Error) << dtype;
  }
}

TEST(SafetensorsWriter, WritesWhatTheReaderReads) {
  const TemporaryDirectory directory;
  const std::vector<float> values{1, 2, 3, 4, 5, 6};
  const std::vector<std::int64_t> numbers{-1};
  const std::vector<TensorToStore> tensors{
      {"matrix", "F32", {2, 3}, std::as_bytes(std::span(values))},
      {"quoted \" \\ \n \u00e9", "I64", {}, std::as_bytes(std::span(numbers))},
      {"empty", "F32", {0, 5}, {}},
  };
  const std::map<std::string, std::string> metadata{{"format", "pt"}, {"step", "3\n"}};
  FileWriter writer(directory / "x");
  write_safetensors(writer, tensors, metadata);
  writer.finish();

  const std::string bytes = read_file(directory / "x");
  EXPECT_EQ(bytes[0] % 8, 0) << "the header is not padded";
  const SafetensorsFile file(directory / "x");
  EXPECT_EQ(file.metadata(), metadata);
  ASSERT_EQ(file.tensors().size(), 3u);
  for (const TensorToStore& tensor : tensors) {
    const StoredTensor* found = file.find(tensor.name);
    ASSERT_NE(found, nullptr) << tensor.name;
    EXPECT_EQ(found->dtype, tensor.dtype);
    EXPECT_EQ(found->shape, tensor.shape);
    EXPECT_TRUE(std::equal(found->bytes.begin(), found->bytes.end(), tensor.bytes.begin(), tensor.bytes.end()));
  }
}

TEST(SafetensorsWriter, WritesNoTensorsAtAll) {
  const TemporaryDirectory directory;
  FileWriter writer(directory / "x");
  write_safetensors(writer, {}, {});
  writer.finish();
  EXPECT_TRUE(SafetensorsFile(directory / "x").tensors().empty());
}

TEST(SafetensorsWriter, RefusesTensorsThatContradictTheirDescription) {
  const TemporaryDirectory directory;
  const std::vector<std::byte> bytes(8);
  FileWriter writer(directory / "x");
  const auto write = [&](std::vector<TensorToStore> tensors) { write_safetensors(writer, tensors, {}); };
  EXPECT_THROW(write({{"t", "F32", {3}, bytes}}), std::logic_error);
  EXPECT_THROW(write({{"t", "F31", {2}, bytes}}), std::logic_error);
  EXPECT_THROW(write({{"t", "F31", {2}, {}}}), std::logic_error);
  EXPECT_THROW(write({{"t", "F32", {2}, bytes}, {"t", "F32", {2}, bytes}}), std::logic_error);
  EXPECT_THROW(write({{"__metadata__", "F32", {2}, bytes}}), std::logic_error);
}

// The same weights as a torch.save file and as safetensors: the payload, stored uncompressed, stands in the former.
TEST(SafetensorsData, HoldsTheBytesOfTheTorchFile) {
  const auto directory = shared_dir() / "checkpoints";
  EMBER_NEEDS_DATA(directory);
  const SafetensorsFile file(directory / "labse_2_Dense_model.safetensors");
  const std::string torch = read_file(directory / "labse_2_Dense_pytorch_model.bin");
  ASSERT_EQ(file.tensors().size(), 2u);
  EXPECT_EQ(file.find("linear.weight")->description(), "F32 [768, 768]");
  EXPECT_EQ(file.find("linear.bias")->description(), "F32 [768]");
  for (const StoredTensor& tensor : file.tensors()) {
    const std::string_view bytes(reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size());
    EXPECT_NE(torch.find(bytes), torch.npos) << tensor.name;
  }
}

TEST(SafetensorsData, ReadsEveryFile) {
  const auto directory = shared_dir() / "checkpoints";
  EMBER_NEEDS_DATA(directory);
  const SafetensorsFile coldfire(directory / "coldfire_tiny_bert.safetensors");
  EXPECT_EQ(coldfire.tensors().size(), 37u);
  EXPECT_EQ(coldfire.find("embeddings.word_embeddings.weight")->description(), "F32 [256, 32]");
  const SafetensorsFile sst2(directory / "bert_tiny_sst2_encoder_only.safetensors");
  EXPECT_EQ(sst2.metadata().at("format"), "pt");
  for (const StoredTensor& tensor : sst2.tensors()) {
    std::vector<float> values(static_cast<std::size_t>(tensor.elements()));
    copy_to_f32(tensor, values.data());
    for (const float value : values) ASSERT_TRUE(std::isfinite(value)) << tensor.name;
  }
}

}  // namespace
}  // namespace ember
