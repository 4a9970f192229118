// Internal to model/: the zip container of torch.save, whose entries are stored, never compressed, so that each is a
// run of the file's bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>

struct zip;

namespace ember {

class ZipFile {
 public:
  // `bytes` are the file's and must outlive the object. Error naming the file and the entry when the container is
  // inconsistent, an entry is compressed, encrypted or stands there twice, or the entries are larger than the file.
  ZipFile(std::span<const std::byte> bytes, std::string file);
  ZipFile(const ZipFile&) = delete;
  ZipFile& operator=(const ZipFile&) = delete;
  ~ZipFile();

  struct Entry {
    std::uint64_t index = 0, size = 0;
  };
  const std::map<std::string, Entry>& entries() const { return entries_; }
  // Where in the file the entry's bytes are, their CRC not yet compared. Error when there is none of that name.
  std::span<const std::byte> view(const std::string& name) const;
  // Reads the entry and compares its CRC; gives its view.
  std::span<const std::byte> read(const std::string& name) const;

 private:
  struct Source;
  std::span<const std::byte> read(const std::string& name, bool whole) const;

  std::string file_;
  std::unique_ptr<Source> source_;
  std::unique_ptr<zip, void (*)(zip*)> archive_;
  std::map<std::string, Entry> entries_;
};

}  // namespace ember
