// Lines of a stream in chunks, in bounded memory and without keeping a slow writer waiting.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ember {

class InputLines {
 public:
  static constexpr std::size_t kLineBytes = std::size_t{1} << 16;   // kept of one line
  static constexpr std::size_t kChunkBytes = std::size_t{1} << 20;  // of one chunk, give or take a line
  static constexpr std::size_t kChunkLines = 512;

  explicit InputLines(int descriptor) : descriptor_(descriptor) {}

  // The next lines, without their line ends (LF or CR LF): at least one, waiting for it if need be, then those that can
  // be had without waiting, up to a full chunk. False at the end of the stream. Error when it cannot be read, or begins
  // as UTF-16 does.
  bool next(std::vector<std::string>& lines);

  // Lines so far of which only the first kLineBytes bytes were kept, cut between characters.
  std::int64_t long_lines() const { return long_lines_; }

 private:
  void extend(std::string_view text);
  std::size_t finish(std::vector<std::string>& lines);
  bool take(std::vector<std::string>& lines, std::size_t& bytes);
  bool readable() const;
  void fill();

  int descriptor_;
  std::array<char, 1 << 16> block_;
  std::size_t begin_ = 0, end_ = 0;  // what of block_ is not yet used
  std::string line_;                 // the line at hand, as far as it has come
  bool cut_ = false;                 // whether some of it was left out
  bool first_ = true;                // whether it is the stream's first
  bool ended_ = false;
  std::int64_t long_lines_ = 0;
};

}  // namespace ember
