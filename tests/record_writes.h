// What a program asks of the file system when it writes, in order: one that is linked with record_writes.cpp, whose
// fsync and rename are those of the whole program.
#pragma once

#include <string>
#include <vector>

namespace ember::testing {

// Since the last call: "flush NAME" for each fsync of a file or folder, "rename NAME" for each rename to it, names
// without their folders.
std::vector<std::string> take_writes();

}  // namespace ember::testing
