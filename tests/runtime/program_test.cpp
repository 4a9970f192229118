#include "runtime/program.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include "runtime/error.h"
#include "tests/support.h"

namespace ember {
namespace {

struct Ended {
  int status = -1;
  std::string error;
};

template <typename Body>
Ended run(Body body, std::vector<std::string> arguments = {}) {
  CLI::App app;
  int number = 0;
  std::string choice, folder, input;
  app.add_option("--number", number)->check(CLI::Range(0, 9))->type_name("N");
  app.add_option("--choice", choice)->check(CLI::IsMember({"a", "b"}));
  int count = 0;
  app.add_option("--count", count);
  std::int64_t large = 0;
  app.add_option("--large", large);
  app.add_option_function<std::string>("--seed", [](const std::string&) {})->type_name("UINT");
  double rate = 0, share = 0;
  app.add_option("--rate", rate);
  app.add_option("--share", share)->type_name("P");
  app.add_option("--folder", folder);
  std::vector<double> pair, several;
  app.add_option("--pair", pair)->delimiter(',')->expected(2);
  app.add_option("--several", several)->delimiter(',');
  std::vector<int> sizes;
  app.add_option("--sizes", sizes)->delimiter(',');
  app.add_option("INPUT", input);
  app.add_flag("--flag");
  arguments.insert(arguments.begin(), "somewhere/program");
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  Ended ended;
  ended.error =
      testing::stderr_of([&] { ended.status = run_program(app, static_cast<int>(argv.size()), argv.data(), body); });
  return ended;
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
  EXPECT_EQ(ended.error, "program: internal error: shapes that differ\n");
}

TEST(RunProgram, WhatATerminalWouldActOnIsEscaped) {
  const Ended ended = run([]() -> int { fail("a\x1b[31m\rb\xff\u00e9: no such file"); });
  EXPECT_EQ(ended.error, "program: a\\x1b[31m\\x0db\\xff\u00e9: no such file\n");
}

// What is printed would go into a file that has taken the place of a closed stream.
TEST(RunProgram, NoFileIsAStandardStream) {
  std::string name = "program";
  char* argv[] = {name.data(), nullptr};
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    const int kept = dup(stream);
    close(stream);
    CLI::App app;
    const int opened = run_program(app, 1, argv, [] {
      const int file = open("/dev/null", O_RDONLY);
      close(file);
      return file;
    });
    dup2(kept, stream);
    close(kept);
    EXPECT_GT(opened, STDERR_FILENO) << stream;
  }
}

TEST(RunProgram, ValuesAreOneOfAKind) {
  const auto refused = [](const std::vector<std::string>& arguments) {
    const Ended ended = run([] { return 0; }, arguments);
    EXPECT_EQ(ended.status, 2) << arguments.front();
    return ended.error;
  };
  EXPECT_EQ(run([] { return 0; }, {"--number", "7"}).error, "");
  EXPECT_EQ(run([] { return 0; }, {"--number", "+7", "--flag"}).error, "");
  EXPECT_EQ(refused({"--number=08"}), "program: --number 08: must be a number without leading zeros\n");
  EXPECT_EQ(refused({"--number", "010"}), "program: --number 010: must be a number without leading zeros\n");
  EXPECT_EQ(refused({"--number", ""}), "program: --number: is empty, a value was expected\n");
  EXPECT_EQ(refused({"--choice", ""}), "program: --choice: is empty, a value was expected\n");
  EXPECT_EQ(refused({"--flag=maybe"}), "program: --flag: takes no value\n");
  EXPECT_EQ(refused({"--number", "2.5"}), "program: --number 2.5: must be a whole number\n");
  EXPECT_EQ(refused({"--rate", "2e-5x"}), "program: --rate 2e-5x: must be a number\n");
  EXPECT_EQ(refused({"--rate", "1,2"}), "program: --rate 1,2: must be a number\n");
  EXPECT_EQ(refused({"--share", "0,5"}), "program: --share 0,5: must be a number\n");
  EXPECT_EQ(refused({"--pair", "1,x"}), "program: --pair x: must be a number\n");
  EXPECT_EQ(refused({"--count", "99999999999"}), "program: --count 99999999999: must be a number within range\n");
  EXPECT_EQ(refused({"--count", "1", "--sizes", "1,99999999999,2"}),
            "program: --sizes 1,99999999999,2: must be a number within range\n");
  EXPECT_EQ(refused({"--large", "9223372036854775808"}),
            "program: --large 9223372036854775808: must be a number within range\n");
  EXPECT_EQ(refused({"--large", "-9223372036854775809"}),
            "program: --large -9223372036854775809: must be a number within range\n");
  EXPECT_EQ(run([] { return 0; }, {"--large", "9223372036854775807", "--seed", "18446744073709551615"}).error, "");
  for (const std::string number : {"1e-400", "-1e-400", "1e400", "-1e400"})
    EXPECT_EQ(refused({"--rate", number}), "program: --rate " + number + ": must be a number within range\n");
  EXPECT_EQ(refused({"--several", "1,1e400"}), "program: --several 1e400: must be a number within range\n");
  for (const char* number : {"1e-320", "0e-400", "1.7976931348623157e308", "inf"})
    EXPECT_EQ(run([] { return 0; }, {"--rate", number}).error, "") << number;
  EXPECT_EQ(refused({"in", "--nothing", "3"}), "program: --nothing 3: not expected (see program --help)\n");
  EXPECT_EQ(refused({"--number"}), "program: --number: nothing follows, a whole number was expected\n");
  EXPECT_EQ(refused({"--seed"}), "program: --seed: nothing follows, a whole number was expected\n");
  EXPECT_EQ(refused({"--choice"}), "program: --choice: nothing follows, a value was expected\n");
  EXPECT_EQ(refused({"--flag", "--rate"}), "program: --rate: nothing follows, a number was expected\n");
  EXPECT_EQ(refused({"--rate", "--flag"}), "program: --rate: --flag follows, a number was expected\n");
  EXPECT_EQ(refused({"--choice", "--flag"}), "program: --choice: --flag follows, a value was expected\n");
  EXPECT_EQ(refused({"--folder", "--rate=3"}), "program: --folder: --rate=3 follows, a value was expected\n");
  EXPECT_EQ(refused({"--pair", "3"}), "program: --pair: has 1 of 2 values\n");
  EXPECT_EQ(refused({"--pair", "3,4,5"}), "program: --pair: has 3 of 2 values\n");
  for (const std::string list : {"1,,2", "1,2,", ",1", ","}) {
    const std::string message = list + ": a value was expected on both sides of each `,`\n";
    EXPECT_EQ(refused({"--several", list, "--flag"}), "program: --several " + message);
    EXPECT_EQ(refused({"--several", "1", list}), "program: --several " + message);
    EXPECT_EQ(refused({"--pair=" + list}), "program: --pair " + message);
  }
  EXPECT_EQ(run([] { return 0; }, {"--several", "1", "2,3", "--folder", ",", "--choice=a"}).error, "");
  EXPECT_CONTAINS(refused({"--several", "1,2", "--several"}), "--several");
  EXPECT_EQ(run([] { return 0; }, {"--several", "1,2", "--pair", "3,4"}).error, "");
  EXPECT_EQ(run([] { return 0; }, {"--folder", "INPUT", "flag"}).error, "") << "names, but not of options";
  EXPECT_EQ(refused({"--number", "7", "--number"}),
            "program: --number: nothing follows, a whole number was expected\n");
  EXPECT_EQ(refused({"--rate", "2", "--rate", "3"}), "program: --rate: has 2 values, one was expected\n");
  EXPECT_CONTAINS(refused({"--number", "12"}), "12");
  EXPECT_CONTAINS(refused({"--nothing"}), "--nothing");
}

}  // namespace
}  // namespace ember
