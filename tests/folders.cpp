// The one translation unit of the tests that knows where the checkout is: all others compile to the same anywhere,
// which a compiler cache can use.
#include "tests/folders.h"

namespace ember::testing {

std::filesystem::path source_dir() {
  return EMBER_SOURCE_DIR;
}

std::filesystem::path binary_dir() {
  return EMBER_BINARY_DIR;
}

}  // namespace ember::testing
