#include "tests/record_writes.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <mutex>
#include <system_error>
#include <utility>

namespace ember::testing {
namespace {

std::mutex mutex;  // some are written by a thread of their own
std::vector<std::string> writes;
std::string failing;
int its_error = 0;

void record(const char* what, const std::filesystem::path& path) {
  const std::lock_guard lock(mutex);
  writes.push_back(what + path.filename().string());
}

int error_of_flush(const std::filesystem::path& path) {
  const std::lock_guard lock(mutex);
  return path.filename() == failing ? its_error : 0;
}

}  // namespace

std::vector<std::string> take_writes() {
  const std::lock_guard lock(mutex);
  return std::exchange(writes, {});
}

FailingFlush::FailingFlush(const std::string& name, int error) {
  const std::lock_guard lock(mutex);
  failing = name, its_error = error;
}

FailingFlush::~FailingFlush() {
  const std::lock_guard lock(mutex);
  its_error = 0;
}

}  // namespace ember::testing

extern "C" int fsync(int file) {
  std::error_code unknown;
  const std::string name = "/proc/self/fd/" + std::to_string(file);
  const std::filesystem::path path = std::filesystem::read_symlink(name, unknown);
  ember::testing::record("flush ", path);
  if (const int error = ember::testing::error_of_flush(path); error != 0) {
    errno = error;
    return -1;
  }
  return static_cast<int>(syscall(SYS_fsync, file));
}

extern "C" int rename(const char* from, const char* to) noexcept {
  ember::testing::record("rename ", to);
  return renameat(AT_FDCWD, from, AT_FDCWD, to);
}
