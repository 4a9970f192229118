#include "model/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <optional>
#include <set>
#include <stdexcept>
#include <utility>

#include "model/json_file.h"
#include "runtime/error.h"

namespace ember {
namespace {

using nlohmann::json;

static_assert(std::endian::native == std::endian::little, "the format is little-endian and is read as it lies");

constexpr std::uint64_t kMaxHeader = 100'000'000;
constexpr std::size_t kLengthBytes = 8;
constexpr std::size_t kMaxRank = 64;  // so that a header cannot ask for much more memory than it is long

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

// 0 for a type that the format does not know.
std::uint64_t element_bytes(std::string_view dtype) {
  const auto* found =
      std::find_if(kElementBytes.begin(), kElementBytes.end(), [&](const auto& entry) { return entry.first == dtype; });
  return found == kElementBytes.end() ? 0 : found->second;
}

// Bytes of a tensor; nothing when the number does not fit.
std::optional<std::uint64_t> byte_count(const std::vector<std::int64_t>& shape, std::string_view dtype) {
  std::uint64_t product = element_bytes(dtype);
  for (const std::int64_t size : shape)
    if (__builtin_mul_overflow(product, static_cast<std::uint64_t>(size), &product)) return std::nullopt;
  return product;
}

struct Entry {
  std::string name;
  std::optional<std::string> dtype;
  std::optional<std::vector<std::uint64_t>> shape, offsets;
};

// Takes the header's JSON event by event, so that a hostile one costs no more than its length: nothing recurses, no
// tree is built, and the first event that the format does not foresee is an Error.
class HeaderHandler final : public nlohmann::json_sax<json> {
 public:
  explicit HeaderHandler(std::string where) : where_(std::move(where)) {}

  std::vector<Entry> entries;
  std::map<std::string, std::string> metadata;

  bool start_object(std::size_t) override {
    switch (place_) {
      case Place::before:
        place_ = Place::top;
        return true;
      case Place::tensor_name:
        place_ = Place::tensor;
        return true;
      case Place::metadata_name:
        place_ = Place::metadata;
        return true;
      default:
        unexpected("an object");
    }
  }
  bool end_object() override {
    if (place_ == Place::tensor) require_all();
    place_ = place_ == Place::top ? Place::after : Place::top;
    return true;
  }

  bool key(string_t& name) override {
    if (place_ == Place::top) {
      check(names_.insert(name).second, "{}: \"{}\" stands there twice", where_, printable(name));
      place_ = name == "__metadata__" ? Place::metadata_name : Place::tensor_name;
      if (place_ == Place::tensor_name) entries.push_back({name, {}, {}, {}});
    } else if (place_ == Place::metadata) {
      const bool fresh = metadata.emplace(name, "").second;
      check(fresh, "{}: __metadata__: key \"{}\" stands there twice", where_, printable(name));
      place_ = Place::metadata_value;
      key_ = name;
    } else {
      tensor_key(name);
    }
    return true;
  }

  bool string(string_t& text) override {
    if (place_ == Place::metadata_value) {
      metadata[key_] = text;
      place_ = Place::metadata;
    } else if (place_ == Place::dtype) {
      entries.back().dtype = text;
      place_ = Place::tensor;
    } else {
      unexpected("a string");
    }
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ == Place::shape || place_ == Place::offsets)
      place_ = place_ == Place::shape ? Place::in_shape : Place::in_offsets;
    else
      unexpected("an array");
    return true;
  }
  bool end_array() override {
    place_ = Place::tensor;
    return true;
  }
  bool number_unsigned(number_unsigned_t number) override {
    if (place_ != Place::in_shape && place_ != Place::in_offsets) unexpected("a number");
    Entry& entry = entries.back();
    auto& list = place_ == Place::in_shape ? *entry.shape : *entry.offsets;
    check(list.size() < kMaxRank, "{}: more than {} dimensions", where(), kMaxRank);
    list.push_back(number);
    return true;
  }

  bool null() override { unexpected("null"); }
  bool boolean(bool) override { unexpected("a boolean"); }
  bool number_integer(number_integer_t) override { unexpected("a negative number"); }
  bool number_float(number_float_t, const string_t& text) override { unexpected("the number " + printable(text)); }
  bool binary(binary_t&) override { unexpected("binary data"); }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception& error) override {
    fail("{}: not JSON: {}", where_, json_complaint(error));
  }

 private:
  // What the next event belongs to.
  enum class Place {
    before,
    top,
    tensor_name,
    tensor,
    dtype,
    shape,
    in_shape,
    offsets,
    in_offsets,
    metadata_name,
    metadata,
    metadata_value,
    after
  };

  std::string where() const {
    const bool in_metadata = place_ == Place::metadata_name || place_ == Place::metadata_value;
    if (in_metadata) return where_ + ": __metadata__";
    if (entries.empty() || place_ == Place::before) return where_;
    return fmt::format("{}: tensor {}", where_, printable(entries.back().name));
  }

  [[noreturn]] void unexpected(const std::string& what) const {
    const char* expected = "an object";
    if (place_ == Place::metadata_value || place_ == Place::dtype) expected = "a string";
    if (place_ == Place::shape || place_ == Place::offsets) expected = "an array";
    if (place_ == Place::in_shape || place_ == Place::in_offsets) expected = "an integer from 0 to 2^64 - 1";
    fail("{}: {} where {} was expected", where(), what, expected);
  }

  void tensor_key(const std::string& name) {
    Entry& entry = entries.back();
    const bool repeated = (name == "dtype" && entry.dtype) || (name == "shape" && entry.shape) ||
                          (name == "data_offsets" && entry.offsets);
    check(!repeated, "{}: key \"{}\" stands there twice", where(), name);
    if (name == "dtype") {
      place_ = Place::dtype;
    } else if (name == "shape") {
      entry.shape.emplace();
      place_ = Place::shape;
    } else if (name == "data_offsets") {
      entry.offsets.emplace();
      place_ = Place::offsets;
    } else {
      fail("{}: unknown key \"{}\"", where(), printable(name));
    }
  }

  void require_all() const {
    const Entry& entry = entries.back();
    check(entry.dtype.has_value(), "{}: dtype is missing", where());
    check(entry.shape.has_value(), "{}: shape is missing", where());
    check(entry.offsets.has_value(), "{}: data_offsets is missing", where());
    check(entry.offsets->size() == 2, "{}: data_offsets has {} numbers, expected 2", where(), entry.offsets->size());
  }

  std::string where_;
  Place place_ = Place::before;
  std::string key_;              // of the __metadata__ value to come
  std::set<std::string> names_;  // of the top object
};

// The header's text, with all that can be said before it is parsed.
std::string_view header_text(std::span<const std::byte> bytes, const std::string& where) {
  check(bytes.size() >= kLengthBytes, "{}: {} bytes, too short for a safetensors file", where, bytes.size());
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), kLengthBytes);
  check(length <= kMaxHeader, "{}: not a safetensors file: a header of {} bytes, at most {} are allowed", where, length,
        kMaxHeader);
  check(length <= bytes.size() - kLengthBytes, "{}: cut short: a header of {} bytes in a file of {}", where, length,
        bytes.size());
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + kLengthBytes, length);
  check(text.starts_with('{'), "{}: the header does not start with {{", where);
  // The parser would take a NUL for the end, and any white space for padding.
  check(text.find('\0') == text.npos, "{}: the header holds a NUL byte", where);
  check(text[text.find_last_not_of(' ')] == '}', "{}: the header does not end with }} and spaces", where);
  return text;
}

// Checks one entry against the data, and gives its view.
StoredTensor stored(Entry&& entry, std::span<const std::byte> data, const std::string& file) {
  const std::string where = fmt::format("{}: tensor {}", file, printable(entry.name));
  const std::uint64_t begin = (*entry.offsets)[0], end = (*entry.offsets)[1];
  check(element_bytes(*entry.dtype) != 0, "{}: unknown dtype \"{}\"", where, printable(*entry.dtype));
  check(begin <= end, "{}: data_offsets {} and {} are reversed", where, begin, end);
  check(end <= data.size(), "{}: data_offsets end at {}, but the file has {} bytes of data", where, end, data.size());
  StoredTensor tensor{std::move(entry.name), std::move(*entry.dtype), {}, data.subspan(begin, end - begin)};
  for (const std::uint64_t size : *entry.shape) {
    check(size <= std::uint64_t{INT64_MAX}, "{}: a dimension of {} is too large", where, size);
    tensor.shape.push_back(static_cast<std::int64_t>(size));
  }
  const std::optional<std::uint64_t> expected = byte_count(tensor.shape, tensor.dtype);
  check(expected.has_value(), "{}: {} has more bytes than can be counted", where, tensor.description());
  check(*expected == end - begin, "{}: {} takes {} bytes, but data_offsets span {}", where, tensor.description(),
        *expected, end - begin);
  return tensor;
}

// Each tensor starts where the one before ended, and the last ends with the file.
void check_order(const std::vector<StoredTensor>& tensors, std::span<const std::byte> data, const std::string& file) {
  const std::byte* position = data.data();
  for (const StoredTensor& tensor : tensors) {
    check(tensor.bytes.data() == position, "{}: tensor {}: its data start at {}, expected {}: {}", file,
          printable(tensor.name), tensor.bytes.data() - data.data(), position - data.data(),
          tensor.bytes.data() < position ? "tensors overlap" : "there is a hole");
    position += tensor.bytes.size();
  }
  const auto used = static_cast<std::size_t>(position - data.data());
  check(used == data.size(), "{}: {} bytes after the last tensor", file, data.size() - used);
}

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
template <typename Stored, typename Convert>
void convert(std::span<const std::byte> bytes, float* out, Convert convert_one) {
  for (std::size_t i = 0; i < bytes.size() / sizeof(Stored); ++i) {
    Stored value;
    std::memcpy(&value, bytes.data() + i * sizeof(Stored), sizeof(Stored));
    out[i] = convert_one(value);
  }
}

void append_entry(std::string& header, const std::string& key, const std::string& value) {
  if (header.size() > 1) header += ',';
  header += json(key).dump() + ':' + value;
}

}  // namespace

std::int64_t StoredTensor::elements() const {
  std::int64_t product = 1;
  for (const std::int64_t size : shape) product *= size;
  return product;
}

std::string StoredTensor::description() const {
  return fmt::format("{} [{}]", dtype, fmt::join(shape, ", "));
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : file_(path) {
  const std::string file = path.string();
  const std::string_view text = header_text(file_.bytes(), file);
  HeaderHandler handler(file + ": header");
  json::sax_parse(text.begin(), text.end(), &handler);
  const auto data = file_.bytes().subspan(kLengthBytes + text.size());
  for (Entry& entry : handler.entries) tensors_.push_back(stored(std::move(entry), data, file));
  // Equal starts: an empty tensor comes before the one that has the bytes.
  const auto place = [](const StoredTensor& t) { return std::pair(t.bytes.data(), t.bytes.size()); };
  std::stable_sort(tensors_.begin(), tensors_.end(),
                   [&](const StoredTensor& a, const StoredTensor& b) { return place(a) < place(b); });
  check_order(tensors_, data, file);
  metadata_ = std::move(handler.metadata);
}

const StoredTensor* SafetensorsFile::find(std::string_view name) const {
  const auto found = std::find_if(tensors_.begin(), tensors_.end(), [&](const auto& t) { return t.name == name; });
  return found == tensors_.end() ? nullptr : &*found;
}

bool is_floating(const StoredTensor& tensor) {
  return tensor.dtype == "F32" || tensor.dtype == "F16" || tensor.dtype == "BF16" || tensor.dtype == "F64";
}

void copy_to_f32(const StoredTensor& tensor, float* out) {
  check(is_floating(tensor), "tensor {}: {} cannot be read as floats, expected F64, F32, F16 or BF16",
        printable(tensor.name), tensor.description());
  if (tensor.bytes.empty()) return;
  if (tensor.dtype == "F32") std::memcpy(out, tensor.bytes.data(), tensor.bytes.size());
  if (tensor.dtype == "F64") convert<double>(tensor.bytes, out, [](double value) { return static_cast<float>(value); });
  if (tensor.dtype == "F16") convert<std::uint16_t>(tensor.bytes, out, from_f16);
  if (tensor.dtype == "BF16") convert<std::uint16_t>(tensor.bytes, out, from_bf16);
}

void write_safetensors(FileWriter& file, std::span<const TensorToStore> tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::string header = "{";
  if (!metadata.empty()) append_entry(header, "__metadata__", json(metadata).dump());
  std::set<std::string_view> names{"__metadata__"};
  std::uint64_t offset = 0;
  for (const TensorToStore& tensor : tensors) {
    const std::optional<std::uint64_t> expected = byte_count(tensor.shape, tensor.dtype);
    if (element_bytes(tensor.dtype) == 0 || expected != tensor.bytes.size() || !names.insert(tensor.name).second)
      throw std::logic_error(fmt::format("tensor {} cannot be stored as it is described", tensor.name));
    append_entry(header, tensor.name,
                 fmt::format(R"({{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})", tensor.dtype,
                             fmt::join(tensor.shape, ","), offset, offset + tensor.bytes.size()));
    offset += tensor.bytes.size();
  }
  header += '}';
  header.resize((header.size() + 7) / 8 * 8, ' ');
  const std::uint64_t length = header.size();
  file.write(&length, sizeof length);
  file.write(header);
  for (const TensorToStore& tensor : tensors) file.write(tensor.bytes.data(), tensor.bytes.size());
}

}  // namespace ember
