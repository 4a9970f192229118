// What the programs of bench/ print and record alike.
#pragma once

#include <string>
#include <string_view>

namespace ember {

// The machine as a JSON object: processor, processors that there are, operating system, compiler, date.
std::string machine_json();

// Writes to standard output, at once; Error when that cannot be written.
void print(std::string_view text);

}  // namespace ember
