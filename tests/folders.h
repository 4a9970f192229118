// The checkout and its build folder, for tests that read from them.
#pragma once

#include <filesystem>

namespace ember::testing {

// EMBER_SOURCE in the environment, for a program that runs elsewhere than it was built; else where that was.
std::filesystem::path source_dir();
std::filesystem::path binary_dir();

}  // namespace ember::testing
