// The checkout and its build folder, for tests that read from them.
#pragma once

#include <filesystem>

namespace ember::testing {

std::filesystem::path source_dir();
std::filesystem::path binary_dir();

}  // namespace ember::testing
