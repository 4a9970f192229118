// Results as JSON, kept whatever happens: after every result the file on disk is a whole document.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "runtime/descriptor.h"

namespace ember {

//   {"context": ..., "results": [
//   ...,
//   ...
//   ]}
class ResultsFile {
 public:
  // Creates the file, or replaces what was in it. `context`: a JSON value.
  ResultsFile(const std::filesystem::path& path, std::string_view context);

  // `result`: a JSON value. Error naming the file when it cannot be written, the disk being full say; what was added
  // before is then still there.
  void add(std::string_view result);

 private:
  void write(std::string_view text);

  std::string name_;
  Descriptor descriptor_;
  std::size_t end_ = 0;  // where the last result ends
  std::size_t count_ = 0;
};

}  // namespace ember
