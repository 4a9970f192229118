#include "data/utf8.h"

#include <utility>

#include "data/unicode.h"
#include "runtime/error.h"

namespace ember {

bool valid_utf8(std::string_view text) {
  while (!text.empty()) {
    const unicode::Decoded read = unicode::decode(text);
    if (read.code == unicode::kInvalid) return false;
    text.remove_prefix(read.length);
  }
  return true;
}

bool repair_utf8(std::string& text) {
  if (valid_utf8(text)) return false;
  std::string repaired;
  for (std::string_view rest = text; !rest.empty();) {
    const unicode::Decoded read = unicode::decode(rest);
    repaired += read.code == unicode::kInvalid ? std::string_view("\xEF\xBF\xBD") : rest.substr(0, read.length);
    rest.remove_prefix(read.length);
  }
  text = std::move(repaired);
  return true;
}

void refuse_utf16(std::string_view start, std::string_view file) {
  check(!start.starts_with("\xFF\xFE") && !start.starts_with("\xFE\xFF"), "{}: is UTF-16, UTF-8 was expected", file);
}

}  // namespace ember
