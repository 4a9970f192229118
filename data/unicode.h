// Unicode as the reference tokenizer (the PyPI package `tokenizers`) knows it: utf8proc's data, overruled by
// data/unicode_exceptions.h wherever the reference or any version of utf8proc differs, so that the answers are the same
// with every utf8proc.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

namespace ember::unicode {

// `text` without the white space (Unicode's White_Space property) at its end.
std::string_view trim_end(std::string_view text);

// What the tokenizer does with a code point. Letter is everything that is none of the others.
enum class CharacterClass : std::uint8_t {
  letter,
  dropped,      // U+0000, U+FFFD, invalid, Cc, Cf, Co; unassigned code points are letters
  space,        // tab, line feed, carriage return, and White_Space that is not a control
  ideograph,    // the CJK blocks, each of whose characters is a word
  mark,         // Mn
  punctuation,  // P*, and the ASCII symbols
};

CharacterClass character_class(char32_t code);

// Canonical combining class; 0 for a starter.
std::uint8_t combining_class(char32_t code);

// Lower case of a code point that canonical decomposition leaves alone. That is always one code point: U+0130, the only
// one to have two, decomposes.
char32_t lower_case(char32_t code);

// Full canonical decomposition, in canonical order, written to `out`; `code` itself where it has none.
std::span<const char32_t> decompose(char32_t code, std::array<char32_t, 4>& out);

// The tables of data/unicode_exceptions.h: first and last code point, and what holds for them.
struct ClassException {
  char32_t first, last;
  CharacterClass value;
};
struct CombiningException {
  char32_t first, last;
  std::uint8_t value;
};
struct CodeRange {
  char32_t first, last;
};
struct LowerException {
  char32_t first, last;
  std::int32_t offset;
};

}  // namespace ember::unicode
