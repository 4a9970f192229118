#include "data/line_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <cerrno>
#include <cstring>

#include "runtime/error.h"

namespace ember {
namespace {

constexpr std::size_t kBufferBytes = 1 << 16;

gzFile open_file(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  check(descriptor >= 0, "{}: {}", path.string(), errno_text(errno));
  struct stat info {};
  const bool is_directory = ::fstat(descriptor, &info) == 0 && S_ISDIR(info.st_mode);
  gzFile file = is_directory ? nullptr : gzdopen(descriptor, "rb");
  if (file == nullptr) ::close(descriptor);
  check(!is_directory, "{}: is a directory, a file was expected", path.string());
  check(file != nullptr, "{}: out of memory", path.string());
  return file;
}

// zlib starts its messages with a name for the file, which is of no use here.
std::string reason(std::string_view message) {
  const std::size_t colon = message.find(": ");
  return printable(colon == std::string_view::npos ? message : message.substr(colon + 2));
}

}  // namespace

LineReader::LineReader(const std::filesystem::path& path) : path_(path), file_(open_file(path)), buffer_(kBufferBytes) {
  try {
    check(path.extension() != ".gz" || gzdirect(file_) == 0, "{}: named .gz, but it does not hold gzip data",
          path.string());
    fill();
    skip_byte_order_mark();
  } catch (...) {
    gzclose(file_);
    throw;
  }
}

LineReader::~LineReader() {
  gzclose(file_);
}

void LineReader::fill() {
  const int got = gzread(file_, buffer_.data(), static_cast<unsigned>(buffer_.size()));
  const int read_error = errno;
  int code = Z_OK;
  const char* message = gzerror(file_, &code);
  check(code != Z_BUF_ERROR, "{}: its gzip data is cut off", path_.string());
  check(code != Z_ERRNO, "{}: {}", path_.string(), errno_text(read_error));
  check(got >= 0 && code == Z_OK, "{}: its gzip data is damaged ({})", path_.string(), reason(message));
  next_ = 0;
  end_ = static_cast<std::size_t>(got);
}

void LineReader::skip_byte_order_mark() {
  const std::string_view start(buffer_.data(), end_);
  check(!start.starts_with("\xFF\xFE") && !start.starts_with("\xFE\xFF"), "{}: is UTF-16, UTF-8 was expected",
        path_.string());
  if (start.starts_with("\xEF\xBB\xBF")) next_ = 3;
}

bool LineReader::append_line(std::string& line) {
  if (next_ == end_) fill();
  if (next_ == end_) return false;
  ++line_;
  while (next_ != end_) {
    const char* start = buffer_.data() + next_;
    const void* line_feed = std::memchr(start, '\n', end_ - next_);
    const std::size_t length =
        line_feed == nullptr ? end_ - next_ : static_cast<std::size_t>(static_cast<const char*>(line_feed) - start) + 1;
    line.append(start, length);
    next_ += length;
    if (line_feed != nullptr) return true;
    fill();
  }
  return true;
}

std::string_view without_line_end(std::string_view line) {
  if (line.ends_with('\n')) line.remove_suffix(1);
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

}  // namespace ember
