#include "model/stored_tensor.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#include "runtime/error.h"

namespace ember {
namespace {

constexpr std::int64_t kChunk = 1 << 14;  // elements gathered at a time

constexpr std::array<std::pair<std::string_view, std::uint64_t>, 16> kElementBytes{{
    {"F64", 8},
    {"F32", 4},
    {"F16", 2},
    {"BF16", 2},
    {"I64", 8},
    {"I32", 4},
    {"I16", 2},
    {"I8", 1},
    {"U64", 8},
    {"U32", 4},
    {"U16", 2},
    {"U8", 1},
    {"BOOL", 1},
    {"F8_E4M3", 1},
    {"F8_E5M2", 1},
    {"C64", 8},
}};

float from_f16(std::uint16_t half) {
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000u) << 16;
  const std::uint32_t exponent = (half >> 10) & 0x1Fu, fraction = half & 0x3FFu;
  if (exponent == 0x1F) return std::bit_cast<float>(sign | 0x7F800000u | fraction << 13);
  if (exponent != 0) return std::bit_cast<float>(sign | (exponent + 112) << 23 | fraction << 13);
  const float magnitude = static_cast<float>(fraction) * 0x1p-24f;  // subnormal: exact, the result is a normal float
  return sign != 0 ? -magnitude : magnitude;
}

float from_bf16(std::uint16_t upper) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(upper) << 16);
}

// The data may lie at any address, so every element goes through memcpy.
template <typename Stored, typename Out, typename Convert>
void convert(std::span<const std::byte> bytes, Out* out, Convert convert_one) {
  for (std::size_t i = 0; i < bytes.size() / sizeof(Stored); ++i) {
    Stored value;
    std::memcpy(&value, bytes.data() + i * sizeof(Stored), sizeof(Stored));
    out[i] = static_cast<Out>(convert_one(value));
  }
}

template <typename Out, typename Finish>
void convert_floats(std::string_view dtype, std::span<const std::byte> bytes, Out* out, Finish finish) {
  if (dtype == "F64") convert<double>(bytes, out, [&](double v) { return finish(v); });
  if (dtype == "F32") convert<float>(bytes, out, [&](float v) { return finish(v); });
  if (dtype == "F16") convert<std::uint16_t>(bytes, out, [&](std::uint16_t v) { return finish(from_f16(v)); });
  if (dtype == "BF16") convert<std::uint16_t>(bytes, out, [&](std::uint16_t v) { return finish(from_bf16(v)); });
}

void convert_to_f16(const StoredTensor& tensor, std::span<const std::byte> bytes, std::uint16_t* out) {
  convert_floats(tensor.dtype, bytes, out, [&](auto value) {
    const std::uint16_t half = to_f16(static_cast<double>(value));
    if ((half & 0x7FFFu) == 0x7C00u && !std::isinf(value))  // not check(), whose arguments would be made for every one
      fail("{}: {} is beyond fp16, whose largest is 65504", tensor.where(), value);
    return half;
  });
}

}  // namespace

std::int64_t StoredTensor::elements() const {
  std::int64_t product = 1;
  for (const std::int64_t size : shape) product *= size;
  return product;
}

std::uint64_t StoredTensor::size() const {
  return static_cast<std::uint64_t>(elements()) * element_bytes(dtype);
}

std::string StoredTensor::where() const {
  return fmt::format("{}tensor {}", file ? file->string() + ": " : "", printable(name));
}

std::string StoredTensor::description() const {
  return fmt::format("{} [{}]", dtype, fmt::join(shape, ", "));
}

std::uint64_t element_bytes(std::string_view dtype) {
  const auto* found =
      std::find_if(kElementBytes.begin(), kElementBytes.end(), [&](const auto& entry) { return entry.first == dtype; });
  return found == kElementBytes.end() ? 0 : found->second;
}

bool is_floating(const StoredTensor& tensor) {
  return tensor.dtype == "F32" || tensor.dtype == "F16" || tensor.dtype == "BF16" || tensor.dtype == "F64";
}

std::span<const std::byte> stored_elements(const StoredTensor& tensor, std::int64_t begin, std::int64_t count,
                                           std::vector<std::byte>& scratch) {
  const auto width = static_cast<std::size_t>(element_bytes(tensor.dtype));
  const std::size_t bytes = static_cast<std::size_t>(count) * width;
  if (tensor.strides.empty()) return tensor.bytes.subspan(static_cast<std::size_t>(begin) * width, bytes);
  scratch.resize(bytes);
  std::vector<std::int64_t> index(tensor.shape.size());
  std::int64_t from = 0, rest = begin;
  for (std::size_t i = index.size(); i-- > 0 && bytes > 0;) {
    index[i] = rest % tensor.shape[i];
    rest /= tensor.shape[i];
    from += index[i] * tensor.strides[i];
  }
  for (std::size_t at = 0; at < bytes; at += width) {
    std::memcpy(scratch.data() + at, tensor.bytes.data() + static_cast<std::size_t>(from) * width, width);
    for (std::size_t i = index.size(); i-- > 0;) {
      from += tensor.strides[i];
      if (++index[i] < tensor.shape[i]) break;
      from -= tensor.strides[i] * tensor.shape[i];
      index[i] = 0;
    }
  }
  return scratch;
}

void copy_elements(const StoredTensor& tensor, std::int64_t begin, std::int64_t count, DType to, void* out) {
  check(is_floating(tensor), "{}: {} cannot be read as floats, expected F64, F32, F16 or BF16", tensor.where(),
        tensor.description());
  std::vector<std::byte> scratch;
  const std::int64_t step = tensor.strides.empty() ? count : kChunk;
  for (std::int64_t done = 0; done < count; done += step) {
    const auto bytes = stored_elements(tensor, begin + done, std::min(step, count - done), scratch);
    if (to == DType::f16)
      convert_to_f16(tensor, bytes, static_cast<std::uint16_t*>(out) + done);
    else if (tensor.dtype == "F32")
      std::memcpy(static_cast<float*>(out) + done, bytes.data(), bytes.size());
    else
      convert_floats(tensor.dtype, bytes, static_cast<float*>(out) + done, [](auto value) { return value; });
  }
}

void refuse_lfs_pointer(std::span<const std::byte> bytes, const std::filesystem::path& path) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  check(!text.starts_with("version https://git-lfs.github.com/"),
        "{}: is a pointer of Git LFS and not the weights, which `git lfs pull` in its folder fetches", path.string());
}

// An exponent of ones alone carries into the sign when its last bit is added.
bool all_finite(const void* numbers, std::int64_t count, DType type) {
  const auto none_carries = [&]<typename Word>(Word exponent, Word last_bit) {
    Word carries = 0;
    for (std::int64_t i = 0; i < count; ++i) {
      Word word;
      std::memcpy(&word, static_cast<const std::byte*>(numbers) + i * static_cast<std::int64_t>(sizeof word),
                  sizeof word);
      carries = static_cast<Word>(carries | ((word & exponent) + last_bit));
    }
    return carries >> (8 * sizeof(Word) - 1) == 0;
  };
  return type == DType::f32 ? none_carries(std::uint32_t{0x7F800000}, std::uint32_t{0x00800000})
                            : none_carries(std::uint16_t{0x7C00}, std::uint16_t{0x0400});
}

void copy_to_f32(const StoredTensor& tensor, float* out) {
  copy_elements(tensor, 0, tensor.elements(), DType::f32, out);
}

// The fraction's bits beyond the tenth are cut off after the last kept one has been rounded; a double holds any of the
// stored types, so nothing else rounds.
std::uint16_t to_f16(double value) {
  const auto bits = std::bit_cast<std::uint64_t>(value);
  const auto sign = static_cast<std::uint16_t>(bits >> 48 & 0x8000u);
  const double magnitude = std::fabs(value);
  if (std::isnan(value)) return static_cast<std::uint16_t>(sign | 0x7E00u | (bits >> 42 & 0x1FFu));
  if (magnitude >= 65520) return sign | 0x7C00u;  // halfway to 2^16, and the tie goes up
  // Below 2^-14 the spacing is 2^-24: adding 2^28, whose own spacing that is, rounds to it.
  if (magnitude < 0x1p-14)
    return static_cast<std::uint16_t>(sign | static_cast<unsigned>((magnitude + 0x1p28 - 0x1p28) * 0x1p24));
  const std::uint64_t positive = bits & ~(std::uint64_t{1} << 63);
  const std::uint64_t rounded = positive + ((std::uint64_t{1} << 41) - 1) + (positive >> 42 & 1);
  return static_cast<std::uint16_t>(sign | ((rounded >> 42) - (std::uint64_t{1023 - 15} << 10)));
}

}  // namespace ember
