#include "runtime/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "runtime/error.h"

namespace ember {
namespace {

namespace fs = std::filesystem;

// A descriptor that closes itself.
struct Descriptor {
  int value;
  explicit Descriptor(int v) : value(v) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (value >= 0) ::close(value);
  }
};

struct stat open_regular(const fs::path& path, int descriptor) {
  check(descriptor >= 0, "{}: {}", path.string(), errno_text(errno));
  struct stat info {};
  check(::fstat(descriptor, &info) == 0, "{}: {}", path.string(), errno_text(errno));
  check(!S_ISDIR(info.st_mode), "{}: is a directory, a file was expected", path.string());
  return info;
}

void sync_directory(const fs::path& path) {
  const Descriptor directory(::open(path.empty() ? "." : path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  check(directory.value >= 0 && ::fsync(directory.value) == 0, "{}: {}", path.string(), errno_text(errno));
}

// Beside `path`, unique to this process; a leftover of a killed one is simply overwritten.
fs::path temporary_name(const fs::path& path) {
  return path.parent_path() / fmt::format(".{}.{}.partial", path.filename().string(), ::getpid());
}

void rename_into_place(const fs::path& from, const fs::path& to) {
  check(::rename(from.c_str(), to.c_str()) == 0, "{}: {}", to.string(), errno_text(errno));
  sync_directory(to.parent_path());
}

}  // namespace

std::string read_file(const fs::path& path) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  const struct stat info = open_regular(path, file.value);
  std::string content;
  content.reserve(static_cast<std::size_t>(info.st_size));
  char block[1 << 16];
  for (;;) {
    const ssize_t got = ::read(file.value, block, sizeof block);
    if (got < 0 && errno == EINTR) continue;
    check(got >= 0, "{}: {}", path.string(), errno_text(errno));
    if (got == 0) return content;
    content.append(block, static_cast<std::size_t>(got));
  }
}

MappedFile::MappedFile(const fs::path& path) : path_(path) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  size_ = static_cast<std::size_t>(open_regular(path, file.value).st_size);
  if (size_ == 0) return;
  void* mapped = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.value, 0);
  check(mapped != MAP_FAILED, "{}: {}", path.string(), errno_text(errno));
  data_ = static_cast<const std::byte*>(mapped);
}

MappedFile::MappedFile(MappedFile&& other) noexcept { *this = std::move(other); }

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

FileWriter::FileWriter(const fs::path& path)
    : path_(path), descriptor_(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)) {
  check(descriptor_ >= 0, "{}: cannot be written: {}", path.string(), errno_text(errno));
}

FileWriter::~FileWriter() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void FileWriter::write(const void* data, std::size_t bytes) {
  const char* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t written = ::write(descriptor_, next, bytes);
    if (written < 0 && errno == EINTR) continue;
    check(written > 0, "{}: cannot be written: {}", path_.string(), errno_text(errno));
    next += written;
    bytes -= static_cast<std::size_t>(written);
  }
}

void FileWriter::finish() {
  check(::fsync(descriptor_) == 0 || errno == EINVAL, "{}: cannot be written: {}", path_.string(), errno_text(errno));
  const int descriptor = std::exchange(descriptor_, -1);
  check(::close(descriptor) == 0, "{}: cannot be written: {}", path_.string(), errno_text(errno));
}

void write_file_atomically(const fs::path& path, const std::function<void(FileWriter&)>& fill) {
  const fs::path partial = temporary_name(path);
  try {
    FileWriter file(partial);
    fill(file);
    file.finish();
    rename_into_place(partial, path);
  } catch (...) {
    std::error_code ignored;
    fs::remove(partial, ignored);
    throw;
  }
}

void write_file_atomically(const fs::path& path, std::string_view content) {
  write_file_atomically(path, [&](FileWriter& file) { file.write(content); });
}

void write_directory_atomically(const fs::path& path, const std::function<void(const fs::path&)>& fill) {
  const fs::path partial = temporary_name(path);
  std::error_code ignored;
  fs::remove_all(partial, ignored);
  try {
    check(::mkdir(partial.c_str(), 0755) == 0, "{}: cannot be made: {}", partial.string(), errno_text(errno));
    fill(partial);
    sync_directory(partial);
    rename_into_place(partial, path);
  } catch (...) {
    fs::remove_all(partial, ignored);
    throw;
  }
}

void require_writable_directory(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  check(fs::is_directory(path), "{}: cannot be used as a folder: {}", path.string(),
        error ? error.message() : "a file of that name is in the way");
  const fs::path probe = temporary_name(path / "probe");
  try {
    FileWriter(probe).finish();
  } catch (...) {
    fs::remove(probe, error);
    throw;
  }
  fs::remove(probe, error);
}

}  // namespace ember
