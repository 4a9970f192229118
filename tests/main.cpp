// The main function of the programs that hold a folder's tests. Called by its own name, as kernels_tests, such a
// program runs them all; by that of one of its files, perhaps with a backend's before it, as gelu_test or
// simt_gelu_test, that file's. tests/CMakeLists.txt makes links of these names. Exit status 2 where tests would be left
// out unseen: no file of that name, a suite that no link reaches, a filter that leaves nothing.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <string>

namespace {

std::string file_of(const testing::TestInfo& test) {
  return std::filesystem::path(test.file()).stem();
}

void require_own_file(const testing::TestSuite& suite) {
  const std::string file = file_of(*suite.GetTestInfo(0));
  bool own = file.ends_with("_test");
  for (int t = 1; t < suite.total_test_count(); ++t) own = own && file_of(*suite.GetTestInfo(t)) == file;
  if (own) return;
  std::fprintf(stderr, "%s: all of its tests were expected in one file of the name ..._test.cpp\n", suite.name());
  std::exit(2);
}

// The patterns of each file's suites.
std::map<std::string, std::string> patterns_by_file() {
  std::map<std::string, std::string> patterns;
  const testing::UnitTest& all = *testing::UnitTest::GetInstance();
  for (int s = 0; s < all.total_test_suite_count(); ++s) {
    const testing::TestSuite& suite = *all.GetTestSuite(s);
    require_own_file(suite);
    std::string& pattern = patterns[file_of(*suite.GetTestInfo(0))];
    if (!pattern.empty()) pattern += ':';
    pattern.append(suite.name()).append(".*");
  }
  return patterns;
}

// What a filter leaves out stays out; one that names tests has them, whatever their file.
void select(const std::string& patterns, std::string& filter) {
  if (filter.starts_with("*-")) filter.erase(0, 1);
  if (filter == "*") filter.clear();
  if (filter.empty() || filter.starts_with('-')) filter = patterns + filter;
}

}  // namespace

int main(int argc, char** argv) {
  std::string program = std::filesystem::path(argv[0]).filename();
  // Not in a fork of a process that has had other threads or fibers: there TSan takes no notice of what orders them,
  // and would see a race in anything.
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  testing::InitGoogleTest(&argc, argv);
  const std::map<std::string, std::string> patterns = patterns_by_file();
  if (!program.ends_with("_tests")) {
    for (const char* prefix : {"simt_", "gpu_", "reference_", "avx512_", "avx512bf16_", "amx_"})
      if (program.starts_with(prefix)) program.erase(0, std::strlen(prefix));
    const auto found = patterns.find(program);
    if (found == patterns.end()) {
      std::fprintf(stderr, "%s: no file of this name has tests here\n", program.c_str());
      return 2;
    }
    select(found->second, testing::GTEST_FLAG(filter));
  }
  const int failed = RUN_ALL_TESTS();
  if (testing::UnitTest::GetInstance()->test_to_run_count() > 0 || testing::GTEST_FLAG(list_tests)) return failed;
  std::fputs("no test was run: the filter leaves none\n", stderr);
  return 2;
}
