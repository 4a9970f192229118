// Files, read whole, mapped, or written so that a reader sees the old content or the new one and never half of it.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "runtime/descriptor.h"
#include "runtime/error.h"

namespace ember {

// That the system does not let a file be read that is there, for want of a permission or of memory, say. It tells
// nothing of what the file holds.
class ReadRefused : public Error {
 public:
  using Error::Error;
};

// The file's bytes. Error naming the path when it is missing, unreadable or a directory, or has more than `most` bytes.
std::string read_file(const std::filesystem::path& path, std::size_t most = std::string::npos);

// A file mapped read-only into memory for as long as the object lives. Error naming the path when it is missing,
// unreadable or no regular file.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();
  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

// A hint that these bytes of a mapped file are about to be read: all their pages are mapped at once, not one fault
// each.
void expect_reading(std::span<const std::byte> bytes);

// Writes one file through a plain descriptor; every failure, a full disk included, is an Error naming the path.
class FileWriter {
 public:
  explicit FileWriter(const std::filesystem::path& path);  // creates or truncates
  void write(const void* data, std::size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  // Flushes to the device (fsync) and closes. Without it the destructor closes and says nothing.
  void finish();

 private:
  std::filesystem::path path_;
  Descriptor descriptor_;
  std::size_t pending_ = 0;  // bytes since the device was last set to work
};

// What stands beside NAME for a while is called .NAME.PID.USE, after the process that put it there: kPartial is
// what is being written, for one.
inline constexpr std::string_view kPartial = "partial";
std::filesystem::path temporary_name(const std::filesystem::path& path, std::string_view use = kPartial);
struct TemporaryName {
  std::string of;  // NAME
  pid_t process = 0;
  std::string use;
};
// Of a name without its folder; nothing where it is no such name.
std::optional<TemporaryName> parse_temporary_name(std::string_view name);

// Writes a new file, or over an old one, and flushes it to the device; for a folder that takes its place as a whole.
void write_file(const std::filesystem::path& path, std::string_view content);

// Replaces `path` by what `fill` writes: beside it under a temporary name, fsync, rename, fsync of the folder. On an
// exception nothing of it remains and what was there before is untouched, unless it is that last fsync that fails.
void write_file_atomically(const std::filesystem::path& path, const std::function<void(FileWriter&)>& fill);
void write_file_atomically(const std::filesystem::path& path, std::string_view content);

// The same for a folder: `fill` writes into the temporary folder that it is given, which then takes the place of
// `path`. `path` must not exist yet.
void write_directory_atomically(const std::filesystem::path& path,
                                const std::function<void(const std::filesystem::path&)>& fill);

// `path` becomes the same file as `of`, or where the file system has no such links a copy; an old one is replaced
// atomically. Whoever replaces one of the two so leaves the other as it is.
void link_atomically(const std::filesystem::path& of, const std::filesystem::path& path);

// A new folder where the system keeps temporary ones, removed with everything in it at the end. Error when there can be
// none.
class TemporaryDirectory {
 public:
  explicit TemporaryDirectory(std::string_view prefix);  // of its name
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory();
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

// Tells whether a path still leads to the folder that was there first, and not to one that has taken its place. Error
// where nothing is there.
class FolderAtPath {
 public:
  explicit FolderAtPath(const std::filesystem::path& path);
  bool operator==(const FolderAtPath&) const = default;

 private:
  dev_t device_ = 0;
  ino_t number_ = 0;
};

// Error naming the path and its role, --data say, unless a folder is there.
void require_directory(const std::filesystem::path& path, std::string_view role);

// Makes the folder (and its parents) and shows that a file can be written into it; Error naming the path otherwise.
void require_writable_directory(const std::filesystem::path& path);

}  // namespace ember
