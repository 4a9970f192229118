// UTF-8, well-formed as table 3-7 of Unicode 15 has it, and what only claims to be.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace ember {

// Stands for a byte that is not part of well-formed UTF-8.
inline constexpr char32_t kInvalidCode = 0x110000;

struct CodePoint {
  char32_t code = kInvalidCode;
  std::size_t length = 1;  // in bytes
};

// The code point at the front of `text`, which must not be empty; {kInvalidCode, 1} where it is not well-formed.
CodePoint decode_utf8(std::string_view text);

// Writes `code` as UTF-8 to `out`, which has room for 4 bytes, and returns its length.
std::size_t encode_utf8(char32_t code, char* out);

// Whether `byte` is one of a character's, from its second on.
constexpr bool continues_character(char byte) {
  return (static_cast<unsigned char>(byte) & 0xC0) == 0x80;
}

// Whether all of `text` is well-formed.
bool valid_utf8(std::string_view text);

// Puts U+FFFD in the place of every byte that is not part of well-formed UTF-8. Returns whether there was any.
bool repair_utf8(std::string& text);

// Error naming `file` where `start`, its beginning, has the byte order mark of UTF-16. Of what is read by lines, the
// first one is enough.
void refuse_utf16(std::string_view start, std::string_view file);

}  // namespace ember
