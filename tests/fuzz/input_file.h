// What every fuzz target needs: the input as a file, and what a reader may do with a bad one, which is to throw Error
// with one line that names the file. Anything else, a crash, a hang, memory beyond run.sh's limits or another
// exception, is a finding.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "runtime/error.h"
#include "runtime/file.h"

namespace ember::fuzz {

inline void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "fuzz: %s\n", what);
  std::abort();
}

// A file in memory, under a name with an ending in a folder of its own, that takes one content after the other.
class InputFile {
 public:
  explicit InputFile(const std::string& name)
      : descriptor_(::memfd_create(name.c_str(), 0)), folder_("ember-fuzz-"), path_(folder_ / name) {
    require(descriptor_ >= 0, "no file for the input");
    std::filesystem::create_symlink("/proc/self/fd/" + std::to_string(descriptor_), path_);
  }
  ~InputFile() { ::close(descriptor_); }
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  const std::filesystem::path& path() const { return path_; }

  void hold(std::string_view content) const {
    const auto size = static_cast<off_t>(content.size());
    const bool held =
        ::ftruncate(descriptor_, size) == 0 && ::pwrite(descriptor_, content.data(), content.size(), 0) == size;
    require(held, "the input cannot be written");
  }

 private:
  int descriptor_;
  TemporaryDirectory folder_;
  std::filesystem::path path_;
};

// Runs `read`; whether it took the input.
template <typename Read>
bool takes(std::string_view named, Read read) {
  try {
    read();
    return true;
  } catch (const Error& error) {
    const std::string_view message = error.what();
    require(message.find('\n') == message.npos, "an error of more than one line");
    require(message.starts_with(named), "an error that does not name the file");
    require(message.size() < named.size() + 2000, "an error longer than a line can be");
    return false;
  }
}

inline std::string_view as_text(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// Reads every byte, so that a view of what is not there is found.
inline void touch(std::span<const std::byte> bytes) {
  unsigned sum = 0;
  for (const std::byte byte : bytes) sum += static_cast<unsigned>(byte);
  [[maybe_unused]] static volatile unsigned sink;
  sink = sum;
}

}  // namespace ember::fuzz
