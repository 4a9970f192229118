#include "data/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <iterator>

#include "data/unicode_exceptions.h"
#include "runtime/utf8.h"

namespace ember::unicode {
namespace {

constexpr CodeRange kIdeographs[] = {{0x3400, 0x4DBF},   {0x4E00, 0x9FFF},   {0xF900, 0xFAFF},   {0x20000, 0x2A6DF},
                                     {0x2A700, 0x2B73F}, {0x2B740, 0x2B81F}, {0x2B920, 0x2CEAF}, {0x2F800, 0x2FA1F}};

// Which blocks of 256 code points have any exception: most text lies in those that have none.
using Blocks = std::array<bool, 0x1100>;

template <typename Range, std::size_t size>
constexpr void mark_blocks(const Range (&table)[size], Blocks& blocks) {
  for (const Range& range : table)
    for (char32_t block = range.first >> 8; block <= range.last >> 8; ++block) blocks[block] = true;
}

constexpr Blocks exceptional_blocks() {
  Blocks blocks{};
  mark_blocks(kClassExceptions, blocks);
  mark_blocks(kCombiningExceptions, blocks);
  mark_blocks(kUndecomposed, blocks);
  mark_blocks(kLowerExceptions, blocks);
  return blocks;
}

constexpr Blocks kExceptionalBlocks = exceptional_blocks();

// The range of a sorted table that holds `code`, or null.
template <typename Range, std::size_t size>
const Range* find_range(const Range (&table)[size], char32_t code) {
  const auto* after = std::upper_bound(std::begin(table), std::end(table), code,
                                       [](char32_t value, const Range& range) { return value < range.first; });
  return after == std::begin(table) || code > std::prev(after)->last ? nullptr : std::prev(after);
}

template <typename Range, std::size_t size>
const Range* find_exception(const Range (&table)[size], char32_t code) {
  return kExceptionalBlocks[code >> 8] ? find_range(table, code) : nullptr;
}

bool is_space(char32_t code) {
  return code == '\t' || code == '\n' || code == '\r' || code == ' ' || code == 0xA0 || code == 0x1680 ||
         (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 || code == 0x202F || code == 0x205F ||
         code == 0x3000;
}

bool is_ascii_punctuation(char32_t code) {
  return (code >= 33 && code <= 47) || (code >= 58 && code <= 64) || (code >= 91 && code <= 96) ||
         (code >= 123 && code <= 126);
}

CharacterClass class_of_category(utf8proc_category_t category) {
  switch (category) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CO:
      return CharacterClass::dropped;
    case UTF8PROC_CATEGORY_MN:
      return CharacterClass::mark;
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
      return CharacterClass::punctuation;
    default:
      return CharacterClass::letter;
  }
}

}  // namespace

std::string_view trim_end(std::string_view text) {
  while (!text.empty()) {
    std::size_t begin = text.size() - 1;
    while (begin > 0 && continues_character(text[begin])) --begin;
    const char32_t code = decode_utf8(text.substr(begin)).code;
    if (!is_space(code) && code != 0x0B && code != 0x0C && code != 0x85) break;
    text = text.substr(0, begin);
  }
  return text;
}

CharacterClass character_class(char32_t code) {
  if (is_space(code)) return CharacterClass::space;
  if (is_ascii_punctuation(code)) return CharacterClass::punctuation;
  if (code == 0 || code == 0xFFFD || code >= kInvalidCode) return CharacterClass::dropped;
  if (find_range(kIdeographs, code)) return CharacterClass::ideograph;
  if (const ClassException* exception = find_exception(kClassExceptions, code)) return exception->value;
  return class_of_category(utf8proc_category(static_cast<utf8proc_int32_t>(code)));
}

std::uint8_t combining_class(char32_t code) {
  if (const CombiningException* exception = find_exception(kCombiningExceptions, code)) return exception->value;
  return static_cast<std::uint8_t>(utf8proc_get_property(static_cast<utf8proc_int32_t>(code))->combining_class);
}

char32_t lower_case(char32_t code) {
  if (const LowerException* exception = find_exception(kLowerExceptions, code))
    return static_cast<char32_t>(static_cast<std::int32_t>(code) + exception->offset);
  return static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code)));
}

std::span<const char32_t> decompose(char32_t code, std::array<char32_t, 4>& out) {
  out[0] = code;
  if (find_exception(kUndecomposed, code)) return {out.data(), 1};
  std::array<utf8proc_int32_t, 4> buffer{};
  int boundary = 0;
  const auto count =
      utf8proc_decompose_char(static_cast<utf8proc_int32_t>(code), buffer.data(),
                              static_cast<utf8proc_ssize_t>(buffer.size()), UTF8PROC_DECOMPOSE, &boundary);
  if (count < 1 || count > static_cast<utf8proc_ssize_t>(buffer.size())) return {out.data(), 1};
  std::copy_n(buffer.begin(), count, out.begin());
  return {out.data(), static_cast<std::size_t>(count)};
}

}  // namespace ember::unicode
