#include "tests/record_writes.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <mutex>
#include <system_error>
#include <utility>

namespace ember::testing {
namespace {

std::mutex mutex;  // some are written by a thread of their own
std::vector<std::string> writes;

void record(const char* what, const std::filesystem::path& path) {
  const std::lock_guard lock(mutex);
  writes.push_back(what + path.filename().string());
}

}  // namespace

std::vector<std::string> take_writes() {
  const std::lock_guard lock(mutex);
  return std::exchange(writes, {});
}

}  // namespace ember::testing

extern "C" int fsync(int file) {
  std::error_code unknown;
  const std::string name = "/proc/self/fd/" + std::to_string(file);
  ember::testing::record("flush ", std::filesystem::read_symlink(name, unknown));
  return static_cast<int>(syscall(SYS_fsync, file));
}

extern "C" int rename(const char* from, const char* to) noexcept {
  ember::testing::record("rename ", to);
  return renameat(AT_FDCWD, from, AT_FDCWD, to);
}
