// What claims to be UTF-8.
#pragma once

#include <string>
#include <string_view>

namespace ember {

// Whether all of `text` is well-formed (Unicode 15, table 3-7).
bool valid_utf8(std::string_view text);

// Puts U+FFFD in the place of every byte that is not part of well-formed UTF-8. Returns whether there was any.
bool repair_utf8(std::string& text);

// Error naming `file` where `start`, its beginning, has the byte order mark of UTF-16. Of what is read by lines, the
// first one is enough.
void refuse_utf16(std::string_view start, std::string_view file);

}  // namespace ember
