// What a program asks of the file system when it writes, in order: one that is linked with record_writes.cpp, whose
// fsync and rename are those of the whole program.
#pragma once

#include <string>
#include <vector>

namespace ember::testing {

// Since the last call: "flush NAME" for each fsync of a file or folder, "rename NAME" for each rename to it, names
// without their folders.
std::vector<std::string> take_writes();

// As long as it lives, flushes of what is called so fail with that errno.
class FailingFlush {
 public:
  FailingFlush(const std::string& name, int error);
  ~FailingFlush();
  FailingFlush(const FailingFlush&) = delete;
  FailingFlush& operator=(const FailingFlush&) = delete;
};

}  // namespace ember::testing
