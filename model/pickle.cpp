#include "model/pickle.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <unordered_map>
#include <utility>

#include "runtime/error.h"

namespace ember {
namespace {

using Kind = PickleValue::Kind;
using ValueIndex = std::uint32_t;

constexpr std::size_t kMaxStream = std::size_t{8} << 20;
constexpr std::size_t kMaxValues = std::size_t{1} << 18;  // on the stack, in the memo and in all
constexpr std::size_t kMaxLine = 128;                     // of a global's module or name
constexpr std::size_t kMaxArguments = 8;                  // of a call, which copies them
constexpr int kProtocol = 2;

// As it is spelt in the stream, and as it is shown.
constexpr std::array<std::pair<std::string_view, std::string_view>, 14> kGlobals{{
    {"collections\nOrderedDict\n", kOrderedDict},
    {"torch._utils\n_rebuild_tensor_v2\n", kRebuildTensor},
    {"torch._utils\n_rebuild_parameter\n", kRebuildParameter},
    {"torch._utils\n_rebuild_parameter_with_state\n", kRebuildParameterWithState},
    {"torch\nFloatStorage\n", "torch.FloatStorage"},
    {"torch\nHalfStorage\n", "torch.HalfStorage"},
    {"torch\nBFloat16Storage\n", "torch.BFloat16Storage"},
    {"torch\nDoubleStorage\n", "torch.DoubleStorage"},
    {"torch\nLongStorage\n", "torch.LongStorage"},
    {"torch\nIntStorage\n", "torch.IntStorage"},
    {"torch\nShortStorage\n", "torch.ShortStorage"},
    {"torch\nCharStorage\n", "torch.CharStorage"},
    {"torch\nByteStorage\n", "torch.ByteStorage"},
    {"torch\nBoolStorage\n", "torch.BoolStorage"},
}};

struct OpcodeName {
  unsigned char code;
  const char* name;
};

// All there are, so that the refused ones can be named too.
constexpr std::array<OpcodeName, 68> kOpcodes{{
    {'(', "MARK"},
    {'.', "STOP"},
    {'0', "POP"},
    {'1', "POP_MARK"},
    {'2', "DUP"},
    {'F', "FLOAT"},
    {'I', "INT"},
    {'J', "BININT"},
    {'K', "BININT1"},
    {'L', "LONG"},
    {'M', "BININT2"},
    {'N', "NONE"},
    {'P', "PERSID"},
    {'Q', "BINPERSID"},
    {'R', "REDUCE"},
    {'S', "STRING"},
    {'T', "BINSTRING"},
    {'U', "SHORT_BINSTRING"},
    {'V', "UNICODE"},
    {'X', "BINUNICODE"},
    {'a', "APPEND"},
    {'b', "BUILD"},
    {'c', "GLOBAL"},
    {'d', "DICT"},
    {'}', "EMPTY_DICT"},
    {'e', "APPENDS"},
    {'g', "GET"},
    {'h', "BINGET"},
    {'i', "INST"},
    {'j', "LONG_BINGET"},
    {'l', "LIST"},
    {']', "EMPTY_LIST"},
    {'o', "OBJ"},
    {'p', "PUT"},
    {'q', "BINPUT"},
    {'r', "LONG_BINPUT"},
    {'s', "SETITEM"},
    {'t', "TUPLE"},
    {')', "EMPTY_TUPLE"},
    {'u', "SETITEMS"},
    {'G', "BINFLOAT"},
    {0x80, "PROTO"},
    {0x81, "NEWOBJ"},
    {0x82, "EXT1"},
    {0x83, "EXT2"},
    {0x84, "EXT4"},
    {0x85, "TUPLE1"},
    {0x86, "TUPLE2"},
    {0x87, "TUPLE3"},
    {0x88, "NEWTRUE"},
    {0x89, "NEWFALSE"},
    {0x8a, "LONG1"},
    {0x8b, "LONG4"},
    {'B', "BINBYTES"},
    {'C', "SHORT_BINBYTES"},
    {0x8c, "SHORT_BINUNICODE"},
    {0x8d, "BINUNICODE8"},
    {0x8e, "BINBYTES8"},
    {0x8f, "EMPTY_SET"},
    {0x90, "ADDITEMS"},
    {0x91, "FROZENSET"},
    {0x92, "NEWOBJ_EX"},
    {0x93, "STACK_GLOBAL"},
    {0x94, "MEMOIZE"},
    {0x95, "FRAME"},
    {0x96, "BYTEARRAY8"},
    {0x97, "NEXT_BUFFER"},
    {0x98, "READONLY_BUFFER"},
}};

std::string opcode_name(unsigned char code) {
  const auto* found = std::find_if(kOpcodes.begin(), kOpcodes.end(), [&](const auto& o) { return o.code == code; });
  return found == kOpcodes.end() ? fmt::format("0x{:02x}", code) : found->name;
}

class Interpreter {
 public:
  Interpreter(std::string_view stream, const std::string& where, std::vector<PickleValue>& values)
      : stream_(stream.substr(0, kMaxStream)), cut_(stream.size() > kMaxStream), where_(where), values_(values) {}

  // The root's index.
  ValueIndex run() {
    while (step()) {
    }
    require(stack_.size() == 1 && marks_.empty(), "{} values and {} marks are left, one value was expected",
            stack_.size(), marks_.size());
    return stack_[0];
  }
  std::size_t position() const { return position_; }

 private:
  template <typename... Args>
  void require(bool condition, fmt::format_string<Args...> format, Args&&... args) const {
    if (condition) return;
    fail("{}: opcode {} at {}: {}", where_, opcode_name(opcode_), start_,
         fmt::format(format, std::forward<Args>(args)...));
  }

  // One opcode; false after STOP.
  bool step() {
    start_ = position_;
    check(position_ < stream_.size(), "{}: {} at {}", where_,
          cut_ ? "the pickle has no STOP in its first 8 MiB" : "cut short, an opcode was expected", position_);
    opcode_ = static_cast<unsigned char>(stream_[position_++]);
    require(start_ > 0 || opcode_ == 0x80, "a pickle of protocol 2 was expected");
    if (opcode_ == '.') return false;
    require(constant() || structure() || memo() || torch(), "is refused, no checkpoint needs it");
    return true;
  }

  bool constant() {
    switch (opcode_) {
      case 0x80: {
        const auto protocol = number<std::uint8_t>();
        require(start_ == 0 && protocol == kProtocol, "protocol {}, expected 2 at the start", protocol);
        return true;
      }
      case 'N':
        return push({}), true;
      case 0x88:
      case 0x89:
        return push({.kind = Kind::boolean, .integer = opcode_ == 0x88}), true;
      case 'J':
        return push_integer(number<std::int32_t>());
      case 'K':
        return push_integer(number<std::uint8_t>());
      case 'M':
        return push_integer(number<std::uint16_t>());
      case 0x8a:
        return push_long(take(number<std::uint8_t>()));
      case 'G':
        return take(8), push({.kind = Kind::real}), true;
      case 'X':
        return push({.kind = Kind::text, .text = take(number<std::uint32_t>())}), true;
      case 'U':
        return push({.kind = Kind::text, .text = take(number<std::uint8_t>())}), true;
      default:
        return false;
    }
  }

  bool structure() {
    switch (opcode_) {
      case '(':
        require(marks_.size() < kMaxValues, "more than {} marks", kMaxValues);
        return marks_.push_back(stack_.size()), true;
      case ')':
        return push({.kind = Kind::tuple}), true;
      case 0x85:
      case 0x86:
      case 0x87:
        return push({.kind = Kind::tuple, .items = pop(opcode_ - 0x84u)}), true;
      case 't':
        return push({.kind = Kind::tuple, .items = pop_to_mark()}), true;
      case ']':
        return push({.kind = Kind::list}), true;
      case '}':
        return push({.kind = Kind::dict}), true;
      case 'a':
        return extend(Kind::list, pop(1)), true;
      case 'e':
        return extend(Kind::list, pop_to_mark()), true;
      case 's':
        return extend(Kind::dict, pop(2)), true;
      case 'u':
        return extend(Kind::dict, pop_to_mark()), true;
      default:
        return false;
    }
  }

  bool memo() {
    switch (opcode_) {
      case 'q':
        return put(number<std::uint8_t>());
      case 'r':
        return put(number<std::uint32_t>());
      case 'h':
        return get(number<std::uint8_t>());
      case 'j':
        return get(number<std::uint32_t>());
      default:
        return false;
    }
  }

  bool torch() {
    switch (opcode_) {
      case 'c':
        return push({.kind = Kind::global, .text = global()}), true;
      case 'Q':
        return push({.kind = Kind::persistent, .items = pop(1)}), true;
      case 'R':
        return reduce(), true;
      case 'b':
        return build(), true;
      default:
        return false;
    }
  }

  std::string_view take(std::size_t bytes) {
    require(bytes <= stream_.size() - position_, "cut short: {} bytes were expected, {} are left", bytes,
            stream_.size() - position_);
    position_ += bytes;
    return stream_.substr(position_ - bytes, bytes);
  }

  template <typename T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }

  void push_index(ValueIndex index) {
    require(stack_.size() < kMaxValues, "more than {} values on the stack", kMaxValues);
    stack_.push_back(index);
  }

  // A value of the opcode at hand.
  void push(PickleValue value) {
    require(values_.size() < kMaxValues, "more than {} values", kMaxValues);
    value.offset = start_;
    values_.push_back(std::move(value));
    push_index(static_cast<ValueIndex>(values_.size() - 1));
  }

  bool push_integer(std::int64_t integer) { return push({.kind = Kind::integer, .integer = integer}), true; }

  // Two's complement of any length, sign-extended; longer ones keep their bytes.
  bool push_long(std::string_view bytes) {
    if (bytes.size() > 8) return push({.kind = Kind::integer, .text = bytes}), true;
    std::uint64_t value = !bytes.empty() && (bytes.back() & 0x80) != 0 ? ~std::uint64_t{0} : 0;
    if (!bytes.empty()) std::memcpy(&value, bytes.data(), bytes.size());
    return push_integer(static_cast<std::int64_t>(value));
  }

  // What lies above the innermost mark belongs to it: nothing below is in reach.
  std::size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }

  std::vector<ValueIndex> pop(std::size_t count) {
    require(stack_.size() - floor() >= count, "the stack holds {} values, {} were expected", stack_.size() - floor(),
            count);
    const auto first = stack_.end() - static_cast<std::ptrdiff_t>(count);
    std::vector<ValueIndex> items(first, stack_.end());
    stack_.erase(first, stack_.end());
    return items;
  }

  std::vector<ValueIndex> pop_to_mark() {
    require(!marks_.empty(), "no MARK before it");
    std::vector<ValueIndex> items = pop(stack_.size() - marks_.back());
    marks_.pop_back();
    return items;
  }

  PickleValue& top() {
    require(stack_.size() > floor(), "the stack is empty");
    return values_[stack_.back()];
  }

  void extend(Kind kind, const std::vector<ValueIndex>& items) {
    PickleValue& target = top();
    require(target.kind == kind, "{} cannot be filled by it", describe(target));
    require(kind != Kind::dict || items.size() % 2 == 0, "a key without a value");
    target.items.insert(target.items.end(), items.begin(), items.end());
  }

  bool put(std::uint32_t key) {
    top();
    require(memo_.size() < kMaxValues, "more than {} values in the memo", kMaxValues);
    memo_[key] = stack_.back();
    return true;
  }

  bool get(std::uint32_t key) {
    const auto found = memo_.find(key);
    require(found != memo_.end(), "memo {} is undefined", key);
    return push_index(found->second), true;
  }

  std::string_view line() {
    const std::string_view rest = stream_.substr(position_, kMaxLine);
    const std::size_t end = rest.find('\n');
    require(end != rest.npos, "a name that does not end");
    return take(end + 1);
  }

  std::string_view global() {
    const std::string_view module = line(), name = line();
    const std::string_view both(module.data(), module.size() + name.size());
    const auto* found =
        std::find_if(kGlobals.begin(), kGlobals.end(), [&](const auto& known) { return known.first == both; });
    require(found != kGlobals.end(),
            "the global {}.{} is refused, a pickle with it may run code; expected what "
            "torch.save(model.state_dict(), FILE) writes",
            printable(module.substr(0, module.size() - 1)), printable(name.substr(0, name.size() - 1)));
    return found->second;
  }

  void reduce() {
    const std::vector<ValueIndex> parts = pop(2);
    const PickleValue &function = values_[parts[0]], &arguments = values_[parts[1]];
    require(function.kind == Kind::global, "{} is called, a global was expected", describe(function));
    require(arguments.kind == Kind::tuple, "{} is given {}, a tuple of arguments was expected", function.text,
            describe(arguments));
    require(arguments.items.size() <= kMaxArguments, "{} is given {} arguments", function.text, arguments.items.size());
    if (function.text == kOrderedDict) {
      require(arguments.items.empty(), "OrderedDict is given {} arguments, none was expected", arguments.items.size());
      return push({.kind = Kind::dict, .text = kOrderedDict});
    }
    const bool known = function.text == kRebuildTensor || function.text == kRebuildParameter ||
                       function.text == kRebuildParameterWithState;
    require(known, "{} is called, but is no function", function.text);
    push({.kind = Kind::call, .text = function.text, .items = arguments.items});
  }

  // An OrderedDict's attributes: state dicts carry their modules' versions, which say nothing about the tensors.
  void build() {
    const PickleValue& state = values_[pop(1)[0]];
    const PickleValue& target = top();
    require(target.kind == Kind::dict && target.text == kOrderedDict, "is applied to {}, an OrderedDict was expected",
            describe(target));
    const bool metadata = state.kind == Kind::dict && state.items.size() == 2 &&
                          values_[state.items[0]].kind == Kind::text && values_[state.items[0]].text == "_metadata";
    require(metadata, "the state is {}, a dict of _metadata alone was expected", describe(state));
  }

  std::string_view stream_;
  bool cut_;  // the stream goes on beyond what is read of it
  const std::string& where_;
  std::vector<PickleValue>& values_;
  std::vector<ValueIndex> stack_;
  std::vector<std::size_t> marks_;  // heights of the stack
  std::unordered_map<std::uint32_t, ValueIndex> memo_;
  std::size_t position_ = 0, start_ = 0;  // `start_`: of the opcode at hand
  unsigned char opcode_ = 0;
};

}  // namespace

Pickle::Pickle(std::string_view stream, const std::string& where) {
  Interpreter interpreter(stream, where, values_);
  root_ = interpreter.run();
  size_ = interpreter.position();
}

std::string describe(const PickleValue& value) {
  switch (value.kind) {
    case Kind::none:
      return "None";
    case Kind::boolean:
      return value.integer != 0 ? "True" : "False";
    case Kind::integer:
      return value.text.empty() ? fmt::format("the integer {}", value.integer) : "an integer of more than 64 bits";
    case Kind::real:
      return "a float";
    case Kind::text:
      return fmt::format("the text \"{}\"", printable(value.text, 40));
    case Kind::tuple:
      return fmt::format("a tuple of {}", value.items.size());
    case Kind::list:
      return fmt::format("a list of {}", value.items.size());
    case Kind::dict:
      return fmt::format("a dict of {}", value.items.size() / 2);
    case Kind::global:
      return fmt::format("the global {}", value.text);
    case Kind::call:
      return value.text == kRebuildTensor ? "a tensor" : "a parameter";
    case Kind::persistent:
      return "a storage";
  }
  return "";
}

}  // namespace ember
