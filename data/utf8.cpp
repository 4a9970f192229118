#include "data/utf8.h"

#include <string_view>
#include <utility>

#include "data/tokenizer.h"
#include "data/unicode.h"

namespace ember {

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

}  // namespace ember
