// Internal to model/: the zip container of torch.save, whose entries are stored, never compressed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

struct zip;

namespace ember {

class ZipFile {
 public:
  // `bytes` are the file's and must outlive the object. Error naming the file and the entry when the container is
  // inconsistent, an entry is compressed, encrypted or stands there twice, or the entries are larger than the file.
  ZipFile(std::span<const std::byte> bytes, std::string file);

  struct Entry {
    std::uint64_t index = 0, size = 0;
  };
  const std::map<std::string, Entry>& entries() const { return entries_; }
  // The entry's bytes, its CRC checked. Error when there is none of that name.
  std::vector<std::byte> read(const std::string& name) const;

 private:
  std::string file_;
  std::unique_ptr<zip, void (*)(zip*)> archive_;
  std::map<std::string, Entry> entries_;
};

}  // namespace ember
