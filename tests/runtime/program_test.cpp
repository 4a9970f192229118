#include "runtime/program.h"

#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <system_error>

#include "runtime/error.h"

namespace ember {
namespace {

struct Ended {
  int status;
  std::string error;
};

template <typename Body>
Ended run(Body body) {
  CLI::App app;
  char name[] = "somewhere/program";
  char* arguments[] = {name, nullptr};
  ::testing::internal::CaptureStderr();
  const int status = run_program(app, 1, arguments, body);
  return {status, ::testing::internal::GetCapturedStderr()};
}

TEST(RunProgram, TheBodysValueIsTheStatus) {
  const Ended ended = run([] { return 7; });
  EXPECT_EQ(ended.status, 7);
  EXPECT_EQ(ended.error, "");
}

TEST(RunProgram, AnErrorIsOneLineAndTwo) {
  const Ended ended = run([]() -> int { fail("a file: {} was expected", "another"); });
  EXPECT_EQ(ended.status, 2);
  EXPECT_EQ(ended.error, "program: a file: another was expected\n");
}

TEST(RunProgram, APathThatMayNotBeLookedAtIsTwo) {
  const Ended ended = run([]() -> int {
    throw std::filesystem::filesystem_error("status", "/secret", std::make_error_code(std::errc::permission_denied));
  });
  EXPECT_EQ(ended.status, 2);
  EXPECT_EQ(ended.error, "program: /secret: Permission denied\n");
}

TEST(RunProgram, ADefectIsOneLineAndOne) {
  const Ended ended = run([]() -> int { throw std::logic_error("shapes\nthat differ"); });
  EXPECT_EQ(ended.status, 1);
  EXPECT_EQ(ended.error.find("program: internal error: shapes"), 0u) << ended.error;
  EXPECT_EQ(std::count(ended.error.begin(), ended.error.end(), '\n'), 1) << ended.error;
}

}  // namespace
}  // namespace ember
