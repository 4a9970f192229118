#pragma once

#include <string_view>

namespace ember {

// Writes all of `text` to standard output at once, unbuffered, so that a reader sees it now and a failure (a closed
// pipe, a full disk) is an Error here.
void write_output(std::string_view text);

}  // namespace ember
