#include "runtime/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <utility>

#include "runtime/descriptor.h"
#include "runtime/error.h"
#include "runtime/parse_whole.h"

namespace ember {
namespace {

namespace fs = std::filesystem;

// A call and the errno that it leaves must not be arguments of one check: their order is the compiler's choice.
void require(bool succeeded, const fs::path& path, const char* what) {
  const int error = errno;
  check(succeeded, "{}: {}{}", path.string(), what, errno_text(error));
}
// The same of a call that opens or reads a file.
void require_readable(bool succeeded, const fs::path& path) {
  const int error = errno;
  if (succeeded) return;
  const std::string message = fmt::format("{}: {}", path.string(), errno_text(error));
  if (error == ENOENT || error == ENOTDIR) throw Error(message);
  throw ReadRefused(message);
}
constexpr const char* kNotWritten = "cannot be written: ";
constexpr std::size_t kPiece = std::size_t{8} << 20;  // written before the device is set to work

struct stat open_file(const fs::path& path, const Descriptor& file) {
  require_readable(file.is_open(), path);
  struct stat info {};
  require_readable(::fstat(file.get(), &info) == 0, path);
  check(!S_ISDIR(info.st_mode), "{}: is a directory, a file was expected", path.string());
  return info;
}

class Directory {
 public:
  explicit Directory(const fs::path& path)
      : path_(path), descriptor_(::open(path.empty() ? "." : path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    require(descriptor_.is_open(), path_, kNotFlushed);
  }
  void sync() const {
    // EINVAL: a file system whose folders cannot be flushed.
    require(::fsync(descriptor_.get()) == 0 || errno == EINVAL, path_, kNotFlushed);
  }

 private:
  static constexpr const char* kNotFlushed = "cannot be flushed: ";
  fs::path path_;
  Descriptor descriptor_;
};

void rename_into_place(const fs::path& from, const fs::path& to) {
  const Directory folder(to.parent_path());
  require(::rename(from.c_str(), to.c_str()) == 0, to, kNotWritten);
  folder.sync();
}

}  // namespace

fs::path temporary_name(const fs::path& path, std::string_view use) {
  return path.parent_path() / fmt::format(".{}.{}.{}", path.filename().string(), ::getpid(), use);
}

std::optional<TemporaryName> parse_temporary_name(std::string_view name) {
  const std::size_t last = name.rfind('.'),
                    dot = last == name.npos || last == 0 ? name.npos : name.rfind('.', last - 1);
  if (!name.starts_with('.') || dot == name.npos || dot < 2 || last + 1 == name.size()) return std::nullopt;
  const auto process = parse_whole<pid_t>(name.substr(dot + 1, last - dot - 1));
  if (!process || *process <= 0) return std::nullopt;
  return TemporaryName{std::string(name.substr(1, dot - 1)), *process, std::string(name.substr(last + 1))};
}

std::string read_file(const fs::path& path, std::size_t most) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  const struct stat info = open_file(path, file);
  const auto require_room = [&](std::size_t bytes) {
    check(bytes <= most, "{}: {} bytes, more than the {} allowed", path.string(), bytes, most);
  };
  require_room(static_cast<std::size_t>(info.st_size));
  std::string content;
  content.reserve(static_cast<std::size_t>(info.st_size));
  char block[1 << 16];
  for (;;) {
    const ssize_t got = ::read(file.get(), block, sizeof block);
    if (got < 0 && errno == EINTR) continue;
    require_readable(got >= 0, path);
    if (got == 0) return content;
    require_room(content.size() + static_cast<std::size_t>(got));  // of a pipe nobody knew
    content.append(block, static_cast<std::size_t>(got));
  }
}

MappedFile::MappedFile(const fs::path& path) : path_(path) {
  // Nonblocking: to open a pipe would wait for its writer.
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  const struct stat info = open_file(path, file);
  check(S_ISREG(info.st_mode), "{}: is no regular file, one was expected", path.string());
  size_ = static_cast<std::size_t>(info.st_size);
  if (size_ == 0) return;
  void* mapped = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.get(), 0);
  require_readable(mapped != MAP_FAILED, path);
  data_ = static_cast<const std::byte*>(mapped);
}

MappedFile::MappedFile(MappedFile&& other) noexcept {
  *this = std::move(other);
}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

void expect_reading(std::span<const std::byte> bytes) {
  const auto address = reinterpret_cast<std::uintptr_t>(bytes.data());
  const std::uintptr_t page = address % static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  ::madvise(reinterpret_cast<void*>(address - page), bytes.size() + page, MADV_POPULATE_READ);
}

FileWriter::FileWriter(const fs::path& path)
    : path_(path), descriptor_(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)) {
  require(descriptor_.is_open(), path, kNotWritten);
}

void FileWriter::write(const void* data, std::size_t bytes) {
  const char* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t written = ::write(descriptor_.get(), next, std::min(bytes, kPiece));
    if (written < 0 && errno == EINTR) continue;
    require(written > 0, path_, kNotWritten);
    next += written;
    bytes -= static_cast<std::size_t>(written);
    pending_ += static_cast<std::size_t>(written);
    if (pending_ < kPiece) continue;
    // So that the device is not idle until finish. No more than a hint: what fails here, finish reports.
    ::sync_file_range(descriptor_.get(), 0, 0, SYNC_FILE_RANGE_WRITE);
    pending_ = 0;
  }
}

void FileWriter::finish() {
  require(::fsync(descriptor_.get()) == 0 || errno == EINVAL, path_, kNotWritten);
  require(::close(descriptor_.release()) == 0, path_, kNotWritten);
}

void write_file(const fs::path& path, std::string_view content) {
  FileWriter file(path);
  file.write(content);
  file.finish();
}

void write_file_atomically(const fs::path& path, const std::function<void(FileWriter&)>& fill) {
  const fs::path partial = temporary_name(path);  // what a killed process of the same number left is overwritten
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
  const fs::path target = path.has_filename() ? path : path.parent_path();  // "folder/" is "folder"
  const fs::path partial = temporary_name(target);
  std::error_code ignored;
  fs::remove_all(partial, ignored);
  try {
    require(::mkdir(partial.c_str(), 0755) == 0, partial, "cannot be made: ");
    fill(partial);
    Directory(partial).sync();
    rename_into_place(partial, target);
  } catch (...) {
    fs::remove_all(partial, ignored);
    throw;
  }
}

void link_atomically(const fs::path& of, const fs::path& path) {
  std::error_code error;
  if (fs::equivalent(of, path, error)) return;  // rename would do nothing and leave the other name
  const fs::path partial = temporary_name(path), file = fs::canonical(of, error);  // not a link that it may be
  fs::remove(partial, error);
  fs::create_hard_link(file, partial, error);
  if (!error) {
    try {
      return rename_into_place(partial, path);
    } catch (...) {
      fs::remove(partial, error);
      throw;
    }
  }
  const MappedFile content(of);
  write_file_atomically(path, [&](FileWriter& file) { file.write(content.bytes().data(), content.bytes().size()); });
}

TemporaryDirectory::TemporaryDirectory(std::string_view prefix) {
  std::error_code error;
  const fs::path folder = fs::temp_directory_path(error);
  check(!error, "TMPDIR: no such folder for temporary ones: {}", error.message());
  std::string pattern = (folder / prefix).string() + "XXXXXX";
  require(mkdtemp(pattern.data()) != nullptr, folder, "no folder can be made there: ");
  path_ = pattern;
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

FolderAtPath::FolderAtPath(const fs::path& path) {
  struct stat info {};
  require_readable(::stat(path.c_str(), &info) == 0, path);
  device_ = info.st_dev, number_ = info.st_ino;
}

void require_directory(const fs::path& path, std::string_view role) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  const std::string name = printable(path.string(), 4096);
  check(status.type() != fs::file_type::not_found, "{}: no such folder ({})", name, role);
  check(fs::status_known(status), "{}: {} ({})", name, error.message(), role);
  check(fs::is_directory(status), "{}: is a file, a folder was expected ({})", name, role);
}

void require_writable_directory(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  check(fs::is_directory(path), "{}: cannot be used as a folder: {}", path.string(),
        error ? error.message() : "a file of that name is in the way");
  const fs::path probe = temporary_name(path / "probe");
  const Descriptor file(::open(probe.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  int problem = file.is_open() ? 0 : errno;
  fs::remove(probe, error);  // before it is written, which takes time: what ends the program then leaves nothing there
  if (problem == 0 && (::write(file.get(), "x", 1) != 1 || ::fsync(file.get()) != 0)) problem = errno;
  check(problem == 0, "{}: no file can be written there: {}", path.string(), errno_text(problem));
}

}  // namespace ember
