// Lines of a file, plain or gzip.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace ember {

// A file of something else, without line feeds, is refused before it fills the memory.
inline constexpr std::size_t kMostRowBytes = 16 << 20;

class LineReader {
 public:
  // Error naming the path when it is missing, unreadable, a directory, UTF-16, or .gz by its name and not gzip. Of
  // gzip all members are read, one after the other; what follows them must be another.
  explicit LineReader(const std::filesystem::path& path);
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;
  ~LineReader();

  // Appends the next line with its line end, where it has one, to `line`; false at the end of the file. A byte order
  // mark before the first line is left out. Error when the file cannot be read, its gzip data is cut or damaged, or
  // `line` becomes longer than kMostRowBytes.
  bool append_line(std::string& line);
  std::int64_t line() const { return line_; }  // number of the line read last, from 1
  const std::filesystem::path& path() const { return path_; }

 private:
  class Source;
  void fill();
  void skip_byte_order_mark();

  std::filesystem::path path_;
  std::unique_ptr<Source> source_;
  std::vector<char> buffer_;
  std::size_t next_ = 0, end_ = 0;  // what is left of the buffer
  std::int64_t line_ = 0;
};

// `line` without its LF or CR LF, or the CR of one that ends with the file.
std::string_view without_line_end(std::string_view line);

}  // namespace ember
