// The one translation unit of the tests that knows where the checkout is: all others compile to the same anywhere,
// which a compiler cache can use.
#include "tests/folders.h"

#include <cstdlib>

namespace ember::testing {

std::filesystem::path source_dir() {
  if (const char* path = std::getenv("EMBER_SOURCE")) return path;
  return EMBER_SOURCE_DIR;
}

std::filesystem::path binary_dir() {
  return EMBER_BINARY_DIR;
}

}  // namespace ember::testing
