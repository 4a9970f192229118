#include "bench/machine.h"

#include <fmt/chrono.h>
#include <sys/utsname.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "runtime/error.h"
#include "runtime/program.h"
#include "runtime/spinning.h"

namespace ember {
namespace {

std::string processor() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  return "unknown";
}

}  // namespace

std::string machine_json() {
  utsname system{};
  uname(&system);
  return nlohmann::ordered_json{{"date", fmt::format("{:%Y-%m-%d}", fmt::gmtime(std::time(nullptr)))},
                                {"processor", processor()},
                                {"processors", std::thread::hardware_concurrency()},
                                {"system", fmt::format("{} {}", system.sysname, system.machine)},
                                {"compiler", __VERSION__}}
      .dump();
}

// VmHWM of /proc/self/status, in kB.
std::size_t peak_host_memory() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.rfind("VmHWM:", 0) == 0) return static_cast<std::size_t>(std::stoll(line.substr(6))) * 1024;
  return 0;
}

// 5 makes the system forget the mark (proc(5)).
void reset_peak_host_memory() {
  std::ofstream("/proc/self/clear_refs") << 5;
}

void steady_threads(char** argv) {
  // OpenMP reads its settings before main. Both are set before the program starts anew, once (see adapt_spinning).
  if (std::getenv("OMP_PROC_BIND") != nullptr || setenv("OMP_PROC_BIND", "true", 1) != 0) return;
  if (std::getenv("OMP_WAIT_POLICY") == nullptr && setenv("GOMP_SPINCOUNT", kSpinCount, 0) != 0) return;
  start_anew(argv);
}

void print(std::string_view text) {
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
  check(written, "standard output: {}", errno_text(errno));
}

}  // namespace ember
