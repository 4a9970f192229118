// Repair of text that claims to be UTF-8.
#pragma once

#include <string>

namespace ember {

// Puts U+FFFD in the place of every byte that is not part of well-formed UTF-8. Returns whether there was any.
bool repair_utf8(std::string& text);

}  // namespace ember
