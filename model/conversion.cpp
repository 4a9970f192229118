#include "model/conversion.h"

#include <algorithm>
#include <vector>

#include "model/safetensors.h"
#include "runtime/error.h"
#include "runtime/file.h"

namespace ember {
namespace {

constexpr std::int64_t kBlock = 1 << 16;  // elements converted at a time

void write_elements(FileWriter& file, const StoredTensor& tensor, DType dtype) {
  const char* type = dtype == DType::f16 ? "F16" : "F32";
  expect_reading(tensor.bytes);
  const std::int64_t count = tensor.elements();
  const auto write = [&](const std::byte* elements, std::int64_t size) {
    check(all_finite(elements, size, dtype), "{} has numbers that are not finite", tensor.where());
    file.write(elements, static_cast<std::size_t>(size) * size_of(dtype));
  };
  if (tensor.dtype == type && tensor.strides.empty()) return write(tensor.bytes.data(), count);
  std::vector<std::byte> block(static_cast<std::size_t>(std::min(count, kBlock)) * size_of(dtype));
  for (std::int64_t done = 0; done < count; done += kBlock) {
    const std::int64_t size = std::min(kBlock, count - done);
    copy_elements(tensor, done, size, dtype, block.data());
    write(block.data(), size);
  }
}

void write_drawn(FileWriter& file, const CheckpointMatch& match, std::size_t index, const ConversionOptions& options) {
  const Parameter& parameter = match.list[index];
  std::vector<float> values(static_cast<std::size_t>(parameter.value.size()));
  draw_parameter(parameter, index, match.config, options.seed, values.data());
  write_elements(file, {parameter.name, "F32", parameter.shape, std::as_bytes(std::span(values))}, options.dtype);
}

void write_weights(FileWriter& file, const CheckpointMatch& match, const ConversionOptions& options) {
  std::vector<TensorDescription> header;
  for (const Parameter& parameter : match.list)
    header.push_back({parameter.name, options.dtype == DType::f16 ? "F16" : "F32", parameter.shape});
  write_safetensors_header(file, header, {{"format", "pt"}});
  for (std::size_t i = 0; i < match.list.size(); ++i) {
    if (match.sources[i] == nullptr)
      write_drawn(file, match, i, options);
    else
      write_elements(file, *match.sources[i], options.dtype);
  }
}

}  // namespace

void write_converted(const std::filesystem::path& directory, const CheckpointMatch& match,
                     const ConversionOptions& options) {
  const Tokenizer tokenizer(match.tokenizer);  // what it refuses would be of no use
  save_surroundings(directory, match.config, match.tokenizer, options.dtype, write_file);
  FileWriter file(directory / kWeightsFile);
  write_weights(file, match, options);
  file.finish();
}

}  // namespace ember
