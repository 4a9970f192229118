#include "model/torch_file.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "model/pickle.h"
#include "model/zip_file.h"
#include "runtime/error.h"

namespace ember {
namespace {

using Kind = PickleValue::Kind;
using Bytes = std::span<const std::byte>;

constexpr int kMaxNesting = 4;
// Under which a checkpoint of more than the weights has them.
constexpr std::array<std::string_view, 3> kStateKeys{"state_dict", "model_state_dict", "model"};
constexpr std::uint64_t kRoom = std::uint64_t{64} << 20;

struct StorageType {
  std::string_view global;
  const char* dtype;

  std::int64_t width() const { return static_cast<std::int64_t>(element_bytes(dtype)); }  // bytes of one element
};
constexpr std::array<StorageType, 10> kStorageTypes{{{"torch.FloatStorage", "F32"},
                                                     {"torch.HalfStorage", "F16"},
                                                     {"torch.BFloat16Storage", "BF16"},
                                                     {"torch.DoubleStorage", "F64"},
                                                     {"torch.LongStorage", "I64"},
                                                     {"torch.IntStorage", "I32"},
                                                     {"torch.ShortStorage", "I16"},
                                                     {"torch.CharStorage", "I8"},
                                                     {"torch.ByteStorage", "U8"},
                                                     {"torch.BoolStorage", "BOOL"}}};

// A storage as a persistent id describes it. Legacy files may have it be a part of another, its root.
struct Storage {
  std::string key;
  const StorageType* type = nullptr;
  std::int64_t elements = 0;  // of the root
  std::int64_t begin = 0, count = 0;

  std::int64_t root_bytes() const { return elements * type->width(); }  // checked when it was read
};

struct Layout {
  std::string name;
  Storage storage;
  std::int64_t offset = 0;
  std::vector<std::int64_t> shape, strides;
  std::int64_t elements = 1;
  bool contiguous = true;
};

std::string_view as_text(Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Reads what the pickle says; every complaint names the file, the place in the pickle and what was expected there.
class Reader {
 public:
  Reader(const Pickle& pickle, std::string where, bool legacy)
      : pickle_(pickle), where_(std::move(where)), legacy_(legacy) {}

  // The dict of tensors: the root, or what it holds under one of those keys.
  std::vector<Layout> state_dict(std::vector<std::string>& others) const {
    const PickleValue* dict = &pickle_.root();
    for (int depth = 0;; ++depth) {
      require(depth < kMaxNesting, *dict, "dicts nested deeper than {}", kMaxNesting);
      require(dict->kind == Kind::dict, *dict, "{}, a dict of tensors was expected", describe(*dict));
      const PickleValue* inner = nullptr;
      for_each_entry(*dict, [&](std::string_view name, const PickleValue& value) {
        if (value.kind != Kind::dict || std::find(kStateKeys.begin(), kStateKeys.end(), name) == kStateKeys.end())
          return;
        require(inner == nullptr, value, "several of {} are dicts, one was expected", fmt::join(kStateKeys, ", "));
        inner = &value;
      });
      if (inner == nullptr) break;
      for_each_entry(*dict, [&](std::string_view name, const PickleValue& value) {
        if (&value != inner) others.emplace_back(name);
      });
      dict = inner;
    }
    std::vector<Layout> layouts;
    for_each_entry(*dict, [&](std::string_view name, const PickleValue& value) {
      if (value.kind == Kind::call)
        layouts.push_back(layout(name, value));
      else
        others.emplace_back(name);
    });
    require(!layouts.empty(), *dict, "{} without a tensor in it, or a dict of tensors as {}", describe(*dict),
            fmt::join(kStateKeys, ", "));
    return layouts;
  }

  // Every storage that the pickle names, wherever; those of one key must agree.
  std::map<std::string, Storage> storages() const {
    std::map<std::string, Storage> storages;
    for (const PickleValue& value : pickle_.values()) {
      if (value.kind != Kind::persistent) continue;
      const Storage storage = read_storage(value);
      const Storage& first = storages.emplace(storage.key, storage).first->second;
      require(first.type == storage.type && first.elements == storage.elements, value, "storage {} is {} {} and {} {}",
              printable(storage.key), first.elements, first.type->dtype, storage.elements, storage.type->dtype);
    }
    return storages;
  }

  const PickleValue& item(const PickleValue& value, std::size_t i) const { return pickle_.at(value.items[i]); }

  template <typename... Args>
  void require(bool condition, const PickleValue& value, fmt::format_string<Args...> format, Args&&... args) const {
    if (!condition) fail("{}: at {}: {}", where_, value.offset, fmt::format(format, std::forward<Args>(args)...));
  }

  void require_kind(const PickleValue& value, Kind kind, const char* what) const {
    if (value.kind != kind) require(false, value, "{} where {} was expected", describe(value), what);
  }

  std::int64_t natural(const PickleValue& value, const char* what) const {
    require_kind(value, Kind::integer, what);
    require(value.text.empty() && value.integer >= 0, value, "{} is {}, expected 0 to 2^63 - 1", what, describe(value));
    return value.integer;
  }

 private:
  // Calls visit(name, value) for the dict's entries, whose keys must be texts, each once.
  template <typename Visit>
  void for_each_entry(const PickleValue& dict, Visit visit) const {
    std::set<std::string_view> names;
    for (std::size_t i = 0; i < dict.items.size(); i += 2) {
      const PickleValue &key = item(dict, i), &value = item(dict, i + 1);
      require_kind(key, Kind::text, "a name");
      require(names.insert(key.text).second, key, "\"{}\" stands there twice", printable(key.text));
      visit(key.text, value);
    }
  }

  std::vector<std::int64_t> naturals(const PickleValue& value, const char* what) const {
    require_kind(value, Kind::tuple, what);
    require(value.items.size() <= kMaxRank, value, "{} dimensions, at most {} are read", value.items.size(), kMaxRank);
    std::vector<std::int64_t> numbers;
    for (std::size_t i = 0; i < value.items.size(); ++i) numbers.push_back(natural(item(value, i), what));
    return numbers;
  }

  // ('storage', type, key, location, elements), legacy with (view key, offset, size) or None after it.
  Storage read_storage(const PickleValue& persistent) const {
    const PickleValue& id = item(persistent, 0);
    require_kind(id, Kind::tuple, "a storage's description");
    const std::size_t expected = legacy_ ? 6 : 5;
    require(id.items.size() == expected, id, "a storage is described by {} values, expected {}", id.items.size(),
            expected);
    const PickleValue &tag = item(id, 0), &type = item(id, 1), &key = item(id, 2);
    require(tag.kind == Kind::text && tag.text == "storage", tag, "{} where \"storage\" was expected", describe(tag));
    require_kind(type, Kind::global, "a storage's type");
    require_kind(key, Kind::text, "a storage's key");
    require_kind(item(id, 3), Kind::text, "a storage's location");
    Storage storage;
    storage.key = key.text;
    for (const StorageType& known : kStorageTypes)
      if (known.global == type.text) storage.type = &known;
    require(storage.type != nullptr, type, "{} is no type of a storage", describe(type));
    storage.elements = storage.count = natural(item(id, 4), "a storage's size");
    std::int64_t bytes = 0;
    require(!__builtin_mul_overflow(storage.elements, storage.type->width(), &bytes), id,
            "storage {} has more bytes than can be counted", printable(storage.key));
    if (legacy_ && item(id, 5).kind != Kind::none) read_view(item(id, 5), storage);
    return storage;
  }

  void read_view(const PickleValue& view, Storage& storage) const {
    require_kind(view, Kind::tuple, "a storage's view");
    require(view.items.size() == 3, view, "a view is described by {} values, expected 3", view.items.size());
    require_kind(item(view, 0), Kind::text, "a view's key");
    storage.begin = natural(item(view, 1), "a view's offset");
    storage.count = natural(item(view, 2), "a view's size");
    const bool fits = storage.begin <= storage.elements && storage.count <= storage.elements - storage.begin;
    require(fits, view, "a view of {} elements from {} in a storage of {}", storage.count, storage.begin,
            storage.elements);
  }

  Layout layout(std::string_view name, const PickleValue& entry) const {
    const PickleValue* call = &entry;
    if (call->text != kRebuildTensor) {
      const bool with_state = call->text == kRebuildParameterWithState;
      const std::size_t expected = with_state ? 4 : 3;
      require(call->items.size() == expected, *call, "a parameter of {} arguments, expected {}", call->items.size(),
              expected);
      require_kind(item(*call, 1), Kind::boolean, "requires_grad");
      require_no_hooks(item(*call, 2));
      // Attributes, such as transformers' _is_hf_initialized, which say nothing about the values.
      if (with_state) require_kind(item(*call, 3), Kind::dict, "a parameter's attributes");
      call = &item(*call, 0);
      require(call->kind == Kind::call && call->text == kRebuildTensor, *call,
              "a parameter of {}, a tensor was expected", describe(*call));
    }
    return tensor_layout(name, *call);
  }

  void require_no_hooks(const PickleValue& hooks) const {
    require(hooks.kind == Kind::dict && hooks.items.empty(), hooks, "hooks are {}, expected none", describe(hooks));
  }

  // (storage, offset, shape, strides, requires_grad, hooks[, metadata])
  Layout tensor_layout(std::string_view name, const PickleValue& call) const {
    const std::size_t count = call.items.size();
    require(count == 6 || count == 7, call, "a tensor of {} arguments, expected 6 or 7", count);
    require_kind(item(call, 0), Kind::persistent, "a storage");
    require_kind(item(call, 4), Kind::boolean, "requires_grad");
    require_no_hooks(item(call, 5));
    if (count == 7) {
      // It may say that all values are negated.
      const PickleValue& metadata = item(call, 6);
      const bool empty = metadata.kind == Kind::none || (metadata.kind == Kind::dict && metadata.items.empty());
      require(empty, metadata, "a tensor's metadata are {}, expected none", describe(metadata));
    }
    Layout layout;
    layout.name = name;
    layout.storage = read_storage(item(call, 0));
    layout.offset = natural(item(call, 1), "a tensor's offset");
    layout.shape = naturals(item(call, 2), "a tensor's shape");
    layout.strides = naturals(item(call, 3), "a tensor's strides");
    measure(layout, call);
    return layout;
  }

  // Counts the elements, and checks that every one of them lies in the storage.
  void measure(Layout& layout, const PickleValue& call) const {
    const std::string which = "tensor " + printable(layout.name);
    require(layout.shape.size() == layout.strides.size(), call, "{} has {} dimensions and {} strides", which,
            layout.shape.size(), layout.strides.size());
    const bool empty = std::find(layout.shape.begin(), layout.shape.end(), 0) != layout.shape.end();
    std::int64_t last = layout.offset, bytes = layout.storage.type->width();
    bool overflow = false;
    for (std::size_t i = layout.shape.size(); i-- > 0;) {
      const std::int64_t size = layout.shape[i];
      std::int64_t& stride = layout.strides[i];
      if (size == 1) stride = 0;  // it is never walked, and may be anything
      if (size != 1 && stride != layout.elements) layout.contiguous = false;
      std::int64_t span = 0;
      if (!empty) overflow |= __builtin_mul_overflow(size - 1, stride, &span);
      overflow |= __builtin_add_overflow(last, span, &last);
      overflow |= __builtin_mul_overflow(layout.elements, size, &layout.elements);
      overflow |= __builtin_mul_overflow(bytes, size, &bytes);
    }
    require(!overflow, call, "{}: [{}] with strides [{}] and offset {} is more than can be counted", which,
            fmt::join(layout.shape, ", "), fmt::join(layout.strides, ", "), layout.offset);
    const bool inside = empty ? last <= layout.storage.count : last < layout.storage.count;
    require(inside, call, "{}: [{}] with strides [{}] and offset {} ends outside its storage of {} elements", which,
            fmt::join(layout.shape, ", "), fmt::join(layout.strides, ", "), layout.offset, layout.storage.count);
    if (empty) layout.contiguous = true;
  }

  const Pickle& pickle_;
  std::string where_;
  bool legacy_;
};

// What expanded tensors take, once somebody walks them, is counted here.
void require_room(const std::vector<Layout>& layouts, std::size_t file_bytes, const std::string& file) {
  const std::uint64_t room = 2 * std::uint64_t{file_bytes} + kRoom;
  std::uint64_t left = room;
  for (const Layout& layout : layouts) {
    const auto bytes = static_cast<std::uint64_t>(layout.elements * layout.storage.type->width());
    check(bytes <= left, "{}: tensor {}: with it the tensors take more than {} bytes, in a file of {}", file,
          printable(layout.name), room, file_bytes);
    left -= bytes;
  }
}

// `<prefix>` of the one `<prefix>/data.pkl`.
std::string prefix_of(const ZipFile& zip, const std::string& file) {
  constexpr std::string_view kPickle = "/data.pkl";
  std::optional<std::string> prefix;
  for (const auto& [name, entry] : zip.entries()) {
    if (!name.ends_with(kPickle)) continue;
    check(!prefix, "{}: two data.pkl, {} and {}{}", file, printable(name), printable(prefix.value_or("")), kPickle);
    prefix = name.substr(0, name.size() - kPickle.size());
  }
  check(prefix.has_value(), "{}: a zip file without a data.pkl, so torch.save did not write it", file);
  return *prefix;
}

// Where the file's storages are, by key.
using Contents = std::map<std::string, Bytes>;

// Finds the storages that the tensors view, each once; their CRCs are left to TorchFile::check_data.
Contents zip_contents(const ZipFile& zip, const std::string& prefix, const std::vector<Layout>& layouts,
                      const std::string& file, std::vector<std::string>& unchecked) {
  Contents contents;
  for (const Layout& layout : layouts) {
    const Storage& storage = layout.storage;
    if (contents.count(storage.key) != 0) continue;
    const std::string name = fmt::format("{}/data/{}", prefix, storage.key);
    const auto entry = zip.entries().find(name);
    check(entry != zip.entries().end(), "{}: tensor {}: zip entry {} is missing", file, printable(layout.name),
          printable(name));
    check(entry->second.size == static_cast<std::uint64_t>(storage.root_bytes()),
          "{}: tensor {}: its storage has {} {}, {} bytes, but zip entry {} has {}", file, printable(layout.name),
          storage.elements, storage.type->dtype, storage.root_bytes(), printable(name), entry->second.size);
    contents.emplace(storage.key, zip.view(name));
    unchecked.push_back(name);
  }
  return contents;
}

void check_byte_order(const ZipFile& zip, const std::string& prefix, const std::string& file) {
  const std::string name = prefix + "/byteorder";
  if (zip.entries().count(name) == 0) return;
  const std::string_view order = as_text(zip.read(name));
  check(order == "little", "{}: the byte order is \"{}\", expected little", file, printable(order));
}

// The pickles of a legacy file, one after the other.
class LegacyStream {
 public:
  LegacyStream(Bytes bytes, std::string file) : bytes_(bytes), file_(std::move(file)) {}

  Pickle next(const char* what) {
    Pickle pickle(as_text(bytes_.subspan(position_)), where(what));
    position_ += pickle.size();
    return pickle;
  }
  Bytes take(std::size_t count, const std::string& what) {
    check(count <= bytes_.size() - position_, "{}: cut short: {} needs {} bytes, {} are left", file_, what, count,
          bytes_.size() - position_);
    position_ += count;
    return bytes_.subspan(position_ - count, count);
  }
  std::string where(const char* what) const { return fmt::format("{}: {} from byte {}", file_, what, position_); }
  std::size_t left() const { return bytes_.size() - position_; }

 private:
  Bytes bytes_;
  std::string file_;
  std::size_t position_ = 0;
};

constexpr std::string_view kMagic = "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
constexpr std::int64_t kLegacyVersion = 1001;

void check_legacy_head(LegacyStream& stream, const std::string& file) {
  const Pickle magic = stream.next("magic number");
  check(magic.root().kind == Kind::integer && magic.root().text == kMagic,
        "{}: not a file of torch.save: its first pickle is no magic number", file);
  const Pickle version = stream.next("version");
  check(version.root().kind == Kind::integer && version.root().integer == kLegacyVersion,
        "{}: the version is {}, expected {}", file, describe(version.root()), kLegacyVersion);
  const std::string where = stream.where("system");
  const Pickle system = stream.next("system");
  const Reader reader(system, where, true);
  reader.require_kind(system.root(), Kind::dict, "a dict");
  for (std::size_t i = 0; i < system.root().items.size(); i += 2) {
    const PickleValue &key = reader.item(system.root(), i), &value = reader.item(system.root(), i + 1);
    if (key.kind == Kind::text && key.text == "little_endian")
      check(value.kind == Kind::boolean && value.integer != 0, "{}: the byte order is not little-endian", file);
  }
}

// After the list of keys, per key the number of elements and the elements.
Contents legacy_contents(LegacyStream& stream, const std::map<std::string, Storage>& storages,
                         const std::string& file) {
  const std::string where = stream.where("keys");
  const Pickle keys = stream.next("keys");
  const Reader reader(keys, where, true);
  reader.require_kind(keys.root(), Kind::list, "a list of storages");
  Contents contents;
  for (std::size_t i = 0; i < keys.root().items.size(); ++i) {
    const PickleValue& key = reader.item(keys.root(), i);
    reader.require_kind(key, Kind::text, "a storage's key");
    const auto found = storages.find(std::string(key.text));
    check(found != storages.end(), "{}: storage {} belongs to no tensor", file, printable(key.text));
    const std::string what = "storage " + printable(key.text);
    std::int64_t elements = 0;
    std::memcpy(&elements, stream.take(sizeof elements, what).data(), sizeof elements);
    check(elements == found->second.elements, "{}: {} has {} elements, but the pickle says {}", file, what, elements,
          found->second.elements);
    const Bytes bytes = stream.take(static_cast<std::size_t>(found->second.root_bytes()), what);
    check(contents.emplace(key.text, bytes).second, "{}: {} stands there twice", file, what);
  }
  check(stream.left() == 0, "{}: {} bytes after the last storage", file, stream.left());
  for (const auto& [key, storage] : storages)
    check(contents.count(key) != 0, "{}: storage {} is missing", file, printable(key));
  return contents;
}

struct Parts {
  std::vector<Layout> layouts;
  Contents contents;
};

Parts read_zip(Bytes bytes, const std::string& file, std::vector<std::string>& others,
               std::vector<std::string>& unchecked) {
  const ZipFile zip(bytes, file);
  const std::string prefix = prefix_of(zip, file);
  check_byte_order(zip, prefix, file);
  const Bytes stream = zip.read(prefix + "/data.pkl");
  const Pickle pickle(as_text(stream), file + ": data.pkl");
  check(pickle.size() == stream.size(), "{}: data.pkl: {} bytes after STOP", file, stream.size() - pickle.size());
  const Reader reader(pickle, file + ": data.pkl", false);
  reader.storages();  // for its checks
  Parts parts{reader.state_dict(others), {}};
  require_room(parts.layouts, bytes.size(), file);
  parts.contents = zip_contents(zip, prefix, parts.layouts, file, unchecked);
  return parts;
}

Parts read_legacy(Bytes bytes, const std::string& file, std::vector<std::string>& others) {
  LegacyStream stream(bytes, file);
  check_legacy_head(stream, file);
  const std::string where = stream.where("pickle");
  const Pickle pickle = stream.next("pickle");
  const Reader reader(pickle, where, true);
  const std::map<std::string, Storage> storages = reader.storages();
  Parts parts{reader.state_dict(others), {}};
  require_room(parts.layouts, bytes.size(), file);
  parts.contents = legacy_contents(stream, storages, file);
  return parts;
}

bool is_tar(Bytes bytes) {
  return bytes.size() > 262 && as_text(bytes.subspan(257, 5)) == "ustar";
}

}  // namespace

TorchFile::TorchFile(const std::filesystem::path& path) : file_(path) {
  const std::string file = path.string();
  const Bytes bytes = file_.bytes();
  refuse_lfs_pointer(bytes, path);
  check(!is_tar(bytes), "{}: the tar form of torch.save before PyTorch 0.1.10 is not read; save it anew with PyTorch",
        file);
  const bool is_zip = as_text(bytes).starts_with("PK");
  check(is_zip || as_text(bytes).starts_with('\x80'),
        "{}: neither a zip file nor a pickle, so torch.save did not write it", file);
  auto [layouts, contents] = is_zip ? read_zip(bytes, file, others_, unchecked_) : read_legacy(bytes, file, others_);
  const auto shared = std::make_shared<const std::filesystem::path>(path);
  for (Layout& layout : layouts) {
    const std::int64_t width = layout.storage.type->width();
    const Bytes storage = contents.at(layout.storage.key)
                              .subspan(static_cast<std::size_t>(layout.storage.begin * width),
                                       static_cast<std::size_t>(layout.storage.count * width));
    Bytes data = storage.subspan(static_cast<std::size_t>(layout.offset * width));
    if (layout.contiguous) {
      data = data.first(static_cast<std::size_t>(layout.elements * width));
      layout.strides.clear();
    }
    tensors_.push_back({std::move(layout.name), layout.storage.type->dtype, std::move(layout.shape), data,
                        std::move(layout.strides), shared});
  }
}

void TorchFile::check_data() const {
  if (unchecked_.empty()) return;
  const ZipFile zip(file_.bytes(), path().string());
  for (const std::string& name : unchecked_) zip.read(name);
}

}  // namespace ember
