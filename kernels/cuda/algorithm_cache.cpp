#include "kernels/cuda/algorithm_cache.h"

#include <fcntl.h>
#include <sys/file.h>

#include <cctype>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <utility>

#include "runtime/descriptor.h"
#include "runtime/error.h"
#include "runtime/file.h"

namespace ember {
namespace {

constexpr std::string_view kTitle = "ember matmul algorithms 1, ";
constexpr std::size_t kDigits = 16;  // of a word

// The text up to the next line break, which goes too.
std::string_view take_line(std::string_view& text) {
  const std::size_t end = text.find('\n');
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return line;
}

std::pair<std::string, AlgorithmCache::Algorithm> parse(std::string_view line) {
  AlgorithmCache::Algorithm algorithm{};
  const std::size_t length = kDigits * algorithm.size();
  bool valid = line.size() > length + 1 && line[length] == ' ';
  for (std::size_t i = 0; valid && i < algorithm.size(); ++i) {
    const char* begin = line.data() + kDigits * i;
    const auto [stop, error] = std::from_chars(begin, begin + kDigits, algorithm[i], 16);
    valid = error == std::errc{} && stop == begin + kDigits;
  }
  check(valid, "algorithms of matrix products: 128 hexadecimal digits and a shape were expected, found '{}'",
        printable(line));
  return {std::string(line.substr(length + 1)), algorithm};
}

// While it lives, nobody else reads the file and replaces it by what that read and more. Where a folder has no locks,
// a replacement at the same moment may lose what another measured.
class Lock {
 public:
  explicit Lock(const std::filesystem::path& file)
      : descriptor_(::open((file.string() + ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644)) {
    while (descriptor_.is_open() && ::flock(descriptor_.get(), LOCK_EX) != 0 && errno == EINTR) {
    }
  }

 private:
  Descriptor descriptor_;
};

std::filesystem::path folder() {
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::filesystem::path(value == nullptr ? "" : value);
  };
  if (const auto path = variable("EMBER_CACHE_DIR"); !path.empty()) return path;
  if (const auto path = variable("XDG_CACHE_HOME"); !path.empty()) return path / "ember";
  if (const auto path = variable("HOME"); !path.empty()) return path / ".cache" / "ember";
  return {};
}

}  // namespace

AlgorithmCache::AlgorithmCache(std::string identity, std::filesystem::path file)
    : identity_(std::move(identity)), file_(std::move(file)) {
  reload();
}

void AlgorithmCache::reload() {
  std::error_code ignored;
  if (file_.empty() || !std::filesystem::exists(file_, ignored)) return;
  try {
    Algorithms read = parse_text(read_file(file_));
    algorithms_.merge(read);  // which keeps those that are here
  } catch (const Error&) {
    // A file that cannot be read is measured again, and then replaced.
  }
}

const AlgorithmCache::Algorithm* AlgorithmCache::find(const std::string& shape) const {
  const auto found = algorithms_.find(shape);
  return found == algorithms_.end() ? nullptr : &found->second;
}

void AlgorithmCache::add(const std::string& shape, const Algorithm& algorithm) {
  algorithms_[shape] = algorithm;
  own_.insert(shape);
}

std::string AlgorithmCache::text() const {
  std::string out = fmt::format("{}{}\n", kTitle, identity_);
  for (const auto& [shape, algorithm] : algorithms_) {
    for (const std::uint64_t word : algorithm) out += fmt::format("{:016x}", word);
    out += fmt::format(" {}\n", shape);
  }
  return out;
}

AlgorithmCache::Algorithms AlgorithmCache::parse_text(std::string_view text) const {
  const std::string_view title = take_line(text);
  check(title.starts_with(kTitle), "algorithms of matrix products: '{}...' was expected, found '{}'", kTitle,
        printable(title));
  Algorithms read;
  while (!text.empty()) read.insert(parse(take_line(text)));
  if (title.substr(kTitle.size()) != identity_) read.clear();
  return read;
}

bool AlgorithmCache::merge(std::string_view text) {
  for (const auto& [shape, algorithm] : parse_text(text)) add(shape, algorithm);
  return text.starts_with(fmt::format("{}{}\n", kTitle, identity_));
}

void AlgorithmCache::save() {
  if (own_.empty() || file_.empty()) return;
  std::error_code ignored;
  std::filesystem::create_directories(file_.parent_path(), ignored);
  const Lock lock(file_);
  AlgorithmCache merged(identity_, file_);  // another run may have written meanwhile
  for (const std::string& shape : own_) merged.add(shape, algorithms_.at(shape));
  write_file_atomically(file_, merged.text());
  own_.clear();
}

std::filesystem::path algorithm_cache_file(std::string_view identity) {
  const std::filesystem::path path = folder();
  if (path.empty()) return {};
  std::string name = "matmul-";
  for (const char c : identity) name += std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' ? c : '-';
  return path / (name + ".txt");
}

}  // namespace ember
