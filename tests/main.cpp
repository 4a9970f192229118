// The main function of the programs that hold a folder's tests. Called by its own name, as kernels_tests, such a
// program runs them all; by that of one of its files, perhaps with a backend's before it, as gelu_test or
// simt_gelu_test, that file's. tests/CMakeLists.txt makes links of these names.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>

namespace {

// The patterns of a file's tests, by the file's name without its ending. A pattern is a suite's, so a suite must lie in
// one file: one that does not ends the program.
std::map<std::string, std::string> patterns_by_file() {
  std::map<std::string, std::string> patterns;
  const testing::UnitTest& all = *testing::UnitTest::GetInstance();
  for (int s = 0; s < all.total_test_suite_count(); ++s) {
    const testing::TestSuite& suite = *all.GetTestSuite(s);
    const std::string file = std::filesystem::path(suite.GetTestInfo(0)->file()).stem();
    for (int t = 1; t < suite.total_test_count(); ++t) {
      if (std::filesystem::path(suite.GetTestInfo(t)->file()).stem() == file) continue;
      std::fprintf(stderr, "%s: has tests in %s and in %s, one file was expected\n", suite.name(),
                   suite.GetTestInfo(0)->file(), suite.GetTestInfo(t)->file());
      std::exit(2);
    }
    std::string& pattern = patterns[file];
    if (!pattern.empty()) pattern += ':';
    pattern.append(suite.name()).append(".*");
  }
  return patterns;
}

// The patterns of the file that the program's name ends in; of two such files, of the longer name, as linear_gelu_test.
std::string patterns_of(const std::string& program) {
  std::string best, patterns;
  for (const auto& [file, of_file] : patterns_by_file())
    if ((program == file || program.ends_with("_" + file)) && file.size() > best.size())
      best = file, patterns = of_file;
  return patterns;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string program = std::filesystem::path(argv[0]).filename();
  testing::InitGoogleTest(&argc, argv);
  if (program.ends_with("_tests")) return RUN_ALL_TESTS();
  const std::string patterns = patterns_of(program);
  if (patterns.empty()) {
    std::fprintf(stderr, "%s: no file of this name has tests here\n", program.c_str());
    return 2;
  }
  // What a filter leaves out stays out; one that names tests has them, whatever their file.
  std::string& filter = testing::GTEST_FLAG(filter);
  if (filter.starts_with("*-")) filter.erase(0, 1);
  if (filter == "*") filter.clear();
  if (filter.empty() || filter.starts_with('-')) filter = patterns + filter;
  return RUN_ALL_TESTS();
}
