#include "runtime/error.h"

#include <system_error>

#include "runtime/utf8.h"

namespace ember {

std::string printable(std::string_view text, std::size_t limit) {
  std::string out;
  while (!text.empty()) {
    const CodePoint read = decode_utf8(text);
    // U+0080 to U+009F are control characters too: terminals act on some.
    const bool control = read.code < 0x20 || (read.code >= 0x7F && read.code < 0xA0);
    const bool escaped = control || read.code == kInvalidCode;
    const std::string piece = escaped ? fmt::format("\\x{:02x}", static_cast<unsigned char>(text[0]))
                                      : std::string(text.substr(0, read.length));
    if (out.size() + piece.size() > limit) return out + "...";
    out += piece;
    text.remove_prefix(escaped ? 1 : read.length);
  }
  return out;
}

std::string errno_text(int error) {
  return std::generic_category().message(error);
}

}  // namespace ember
