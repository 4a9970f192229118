#include "runtime/program.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "runtime/error.h"

namespace ember {
namespace {

void print_line(const std::string& program, std::string message) {
  std::replace(message.begin(), message.end(), '\n', ' ');
  std::fprintf(stderr, "%s: %s\n", program.c_str(), message.c_str());
}

}  // namespace

int run_program(CLI::App& app, int argc, char** argv, const std::function<int()>& body) {
  const std::string program = std::filesystem::path(argc > 0 ? argv[0] : "ember").filename().string();
  std::signal(SIGPIPE, SIG_IGN);  // a closed pipe is an error of the write that meets it
  try {
    app.parse(argc, argv);
    return body();
  } catch (const CLI::Success& success) {  // --help, --version
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    print_line(program, fmt::format("{} (see {} --help)", error.what(), program));
    return 2;
  } catch (const Error& error) {
    print_line(program, error.what());
    return 2;
  } catch (const std::exception& error) {
    print_line(program, fmt::format("internal error: {}", error.what()));
    return 1;
  }
}

void start_anew(char** argv) {
  // By the link itself the process would be called "exe" in every list of processes.
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (!error) execv(program.c_str(), argv);
}

}  // namespace ember
