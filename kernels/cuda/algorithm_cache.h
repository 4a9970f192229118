// Which of cuBLASLt's algorithms serves which product, kept from run to run. An algorithm is good for one kind of
// device and one version of the library, so the file is named after both:
//   $EMBER_CACHE_DIR, or $XDG_CACHE_HOME/ember, or ~/.cache/ember, / matmul-<device>-<version>.txt
// Its text has one line that says what it is, then one line per shape: the algorithm in 128 hexadecimal digits, a
// space, the shape. The text of a checkpoint is the same. An empty file of its name and .lock beside it is what
// processes that write it wait for each other with.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <string_view>

namespace ember {

class AlgorithmCache {
 public:
  using Algorithm = std::array<std::uint64_t, 8>;  // cublasLtMatmulAlgo_t

  // `identity`: device and version, one line. Starts with what `file` has, if it has anything for this identity; an
  // empty path means no file.
  AlgorithmCache(std::string identity, std::filesystem::path file);

  // Null for a shape that was never measured.
  const Algorithm* find(const std::string& shape) const;
  void add(const std::string& shape, const Algorithm& algorithm);

  std::string text() const;
  // Takes over the text's algorithms in place of those of the same shapes; false, and nothing, if it is of another
  // identity. Error where a line is not as above.
  bool merge(std::string_view text);

  // Takes over what the file has by now of shapes that are unknown here: other instances and other runs measure too.
  void reload();
  // Replaces the file by what it has by now and, in place of the same shapes, what was added or merged here. Does
  // nothing when nothing was. Others that save at the same time lose nothing. Error when the file cannot be written.
  void save();

 private:
  using Algorithms = std::map<std::string, Algorithm, std::less<>>;
  // Of a whole text; none of another identity's.
  Algorithms parse_text(std::string_view text) const;

  std::string identity_;
  std::filesystem::path file_;
  Algorithms algorithms_;
  std::set<std::string> own_;  // shapes that were added or merged here since they were saved
};

// Where the algorithms of this identity are kept; empty when the environment names no folder.
std::filesystem::path algorithm_cache_file(std::string_view identity);

}  // namespace ember
