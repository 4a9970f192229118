// Internal to model/: a pickle read as data. The stream's opcodes build a tree of plain values and nothing else: a
// global is a name that is never looked up, a call is its name and arguments, and nothing is ever executed. Protocol 2
// as torch.save writes it; the opcodes are described in Python's Lib/pickletools.py.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ember {

struct PickleValue {
  // `call` is a global applied to arguments: text is the global, items the arguments. `persistent` is a persistent id:
  // its only item is the id. `dict` holds keys and values in turn; an OrderedDict is a dict whose text says so.
  enum class Kind : std::uint8_t { none, boolean, integer, real, text, tuple, list, dict, global, call, persistent };

  Kind kind = Kind::none;
  std::uint64_t offset = 0;               // of the opcode that made it
  std::int64_t integer = 0;               // of a boolean as well
  std::string_view text = {};             // into the stream; of an integer of more than 64 bits its little-endian bytes
  std::vector<std::uint32_t> items = {};  // indices, see Pickle::at
};

// One pickle. Error with `where`, the opcode and its offset for every opcode and global but the known ones, a call of
// anything else than the known functions, broken nesting, an undefined memo, a stream cut short, and more values or
// bytes than any checkpoint has (2^18 and 8 MiB). Views stay valid as long as the stream's bytes do.
class Pickle {
 public:
  Pickle(std::string_view stream, const std::string& where);

  const PickleValue& root() const { return values_[root_]; }
  const PickleValue& at(std::uint32_t index) const { return values_[index]; }
  const std::vector<PickleValue>& values() const { return values_; }
  std::size_t size() const { return size_; }  // bytes up to and with STOP

 private:
  std::vector<PickleValue> values_;
  std::uint32_t root_ = 0;
  std::size_t size_ = 0;
};

// "a tuple of 2", "the integer 3", for messages.
std::string describe(const PickleValue& value);

constexpr std::string_view kOrderedDict = "collections.OrderedDict";
constexpr std::string_view kRebuildTensor = "torch._utils._rebuild_tensor_v2";
constexpr std::string_view kRebuildParameter = "torch._utils._rebuild_parameter";
constexpr std::string_view kRebuildParameterWithState = "torch._utils._rebuild_parameter_with_state";

}  // namespace ember
