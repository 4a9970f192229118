#include "runtime/utf8.h"

#include <utility>

#include "runtime/error.h"

namespace ember {

CodePoint decode_utf8(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  if (lead < 0x80) return {lead, 1};
  const std::size_t length = lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF5 ? 4 : 0;
  if (length == 0 || length > text.size()) return {};
  char32_t code = lead & (0x7Fu >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if (!continues_character(text[i])) return {};
    code = code << 6 | (static_cast<unsigned char>(text[i]) & 0x3Fu);
  }
  const bool overlong = (length == 3 && code < 0x800) || (length == 4 && code < 0x10000);
  const bool surrogate = code >= 0xD800 && code < 0xE000;
  if (overlong || surrogate || code > 0x10FFFF) return {};
  return {code, length};
}

std::size_t encode_utf8(char32_t code, char* out) {
  const std::size_t length = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
  for (std::size_t i = length - 1; i > 0; --i, code >>= 6) out[i] = static_cast<char>(0x80 | (code & 0x3F));
  const char32_t lead = length == 1 ? 0 : 0xF00 >> length & 0xFF;
  out[0] = static_cast<char>(lead | code);
  return length;
}

bool valid_utf8(std::string_view text) {
  while (!text.empty()) {
    const CodePoint read = decode_utf8(text);
    if (read.code == kInvalidCode) return false;
    text.remove_prefix(read.length);
  }
  return true;
}

bool repair_utf8(std::string& text) {
  if (valid_utf8(text)) return false;
  std::string repaired;
  for (std::string_view rest = text; !rest.empty();) {
    const CodePoint read = decode_utf8(rest);
    repaired += read.code == kInvalidCode ? std::string_view("\xEF\xBF\xBD") : rest.substr(0, read.length);
    rest.remove_prefix(read.length);
  }
  text = std::move(repaired);
  return true;
}

void refuse_utf16(std::string_view start, std::string_view file) {
  check(!start.starts_with("\xFF\xFE") && !start.starts_with("\xFE\xFF"), "{}: is UTF-16, UTF-8 was expected", file);
}

}  // namespace ember
