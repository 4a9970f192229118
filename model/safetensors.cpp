#include "model/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <deque>
#include <optional>
#include <set>
#include <stdexcept>
#include <utility>

#include "data/strict_json.h"
#include "runtime/ceil_div.h"
#include "runtime/error.h"

namespace ember {
namespace {

using nlohmann::json;

static_assert(std::endian::native == std::endian::little, "the format is little-endian and is read as it lies");

constexpr std::uint64_t kMaxHeader = 100'000'000;
constexpr std::size_t kLengthBytes = 8;
// So that a header cannot ask for much more memory than it is long.
constexpr std::size_t kMaxEntries = std::size_t{1} << 16;  // tensors, and keys of __metadata__
constexpr std::size_t kMaxToken = std::size_t{1} << 16;    // bytes of a string or number, which the parser copies

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

  std::deque<Entry> entries;  // which stay where they are
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
      top_key(name);
    } else if (place_ == Place::metadata) {
      check(metadata.size() < kMaxEntries, "{}: __metadata__ has more than {} keys", where_, kMaxEntries);
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

  void top_key(const std::string& name) {
    const bool is_metadata = name == "__metadata__";
    const bool fresh = is_metadata ? !std::exchange(has_metadata_, true) : names_.count(name) == 0;
    check(fresh, "{}: \"{}\" stands there twice", where_, printable(name));
    place_ = is_metadata ? Place::metadata_name : Place::tensor_name;
    if (is_metadata) return;
    check(entries.size() < kMaxEntries, "{}: more than {} tensors", where_, kMaxEntries);
    entries.push_back({name, {}, {}, {}});
    names_.insert(entries.back().name);
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
  std::string key_;  // of the __metadata__ value to come
  bool has_metadata_ = false;
  std::set<std::string_view> names_;  // of the entries
};

// No string or number of the JSON may be longer than kMaxToken.
void check_tokens(std::string_view text, const std::string& where) {
  constexpr std::string_view kBetween = "{}[],: \t\r\n";
  bool quoted = false;
  for (std::size_t i = 0, begin = 0; i < text.size(); ++i) {
    check(i - begin <= kMaxToken, "{}: a string or number of more than {} bytes at {}", where, kMaxToken,
          begin + kLengthBytes);
    if (quoted && text[i] == '\\') {
      ++i;
    } else if (text[i] == '"') {
      quoted = !quoted;
      begin = i + 1;
    } else if (!quoted && kBetween.find(text[i]) != kBetween.npos) {
      begin = i + 1;
    }
  }
}

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
  check_tokens(text, where + ": header");
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

void append_entry(std::string& header, const std::string& key, const std::string& value) {
  if (header.size() > 1) header += ',';
  header += json(key).dump() + ':' + value;
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : file_(path) {
  const std::string file = path.string();
  refuse_lfs_pointer(file_.bytes(), path);
  const std::string_view text = header_text(file_.bytes(), file);
  HeaderHandler handler(file + ": header");
  json::sax_parse(text.begin(), text.end(), &handler);
  const auto data = file_.bytes().subspan(kLengthBytes + text.size());
  tensors_.reserve(handler.entries.size());
  const auto shared = std::make_shared<const std::filesystem::path>(path);
  for (Entry& entry : handler.entries) tensors_.emplace_back(stored(std::move(entry), data, file)).file = shared;
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

void write_safetensors_header(FileWriter& file, std::span<const TensorDescription> tensors,
                              const std::map<std::string, std::string>& metadata) {
  std::string header = "{";
  if (!metadata.empty()) append_entry(header, "__metadata__", json(metadata).dump());
  std::set<std::string_view> names{"__metadata__"};
  std::uint64_t offset = 0;
  for (const TensorDescription& tensor : tensors) {
    const std::optional<std::uint64_t> bytes = byte_count(tensor.shape, tensor.dtype);
    if (element_bytes(tensor.dtype) == 0 || !bytes || !names.insert(tensor.name).second)
      throw std::logic_error(fmt::format("tensor {} cannot be stored as it is described", tensor.name));
    append_entry(header, tensor.name,
                 fmt::format(R"({{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})", tensor.dtype,
                             fmt::join(tensor.shape, ","), offset, offset + *bytes));
    offset += *bytes;
  }
  header += '}';
  header.resize(round_up(header.size(), 8), ' ');
  const std::uint64_t length = header.size();
  file.write(&length, sizeof length);
  file.write(header);
}

void write_safetensors(FileWriter& file, std::span<const TensorToStore> tensors,
                       const std::map<std::string, std::string>& metadata) {
  for (const TensorToStore& tensor : tensors)
    if (byte_count(tensor.shape, tensor.dtype) != tensor.bytes.size())
      throw std::logic_error(fmt::format("tensor {} cannot be stored as it is described", tensor.name));
  write_safetensors_header(file, std::vector<TensorDescription>(tensors.begin(), tensors.end()), metadata);
  for (const TensorToStore& tensor : tensors) file.write(tensor.bytes.data(), tensor.bytes.size());
}

}  // namespace ember
