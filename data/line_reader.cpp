#include "data/line_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "runtime/descriptor.h"
#include "runtime/error.h"
#include "runtime/utf8.h"

namespace ember {
namespace {

constexpr std::size_t kBufferBytes = 1 << 16;

}  // namespace

// The file's bytes, or what they decompress to. Not zlib's gzread, which takes the file to end where a member after the
// first is damaged at its start.
class LineReader::Source {
 public:
  explicit Source(const std::filesystem::path& path) : path_(path), descriptor_(::open(path.c_str(), kFlags)) {
    check(descriptor_.is_open(), "{}: {}", path.string(), errno_text(errno));
    struct stat info {};
    check(::fstat(descriptor_.get(), &info) != 0 || !S_ISDIR(info.st_mode), "{}: is a directory, a file was expected",
          path.string());
    if (path.extension() != ".gz") return;
    fill();
    check(stream_.avail_in > 1 && packed_[0] == 0x1F && packed_[1] == 0x8B,
          "{}: named .gz, but it does not hold gzip data", path.string());
    constexpr int kGzip = 16 + MAX_WBITS;  // of a header and a checksum, one after the other
    check(inflateInit2(&stream_, kGzip) == Z_OK, "{}: out of memory", path.string());
    compressed_ = true;
  }
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;
  ~Source() {
    if (compressed_) inflateEnd(&stream_);
  }

  // Up to `size` bytes; none at the end alone.
  std::size_t read(char* to, std::size_t size) {
    if (!compressed_) return read_file(to, size);
    stream_.next_out = reinterpret_cast<Bytef*>(to), stream_.avail_out = static_cast<uInt>(size);
    while (stream_.avail_out == size) {
      if (stream_.avail_in == 0) fill();
      if (stream_.avail_in == 0) {
        check(between_members_, "{}: its gzip data is cut off", path_.string());
        break;
      }
      if (between_members_) inflateReset(&stream_);
      const int code = inflate(&stream_, Z_NO_FLUSH);
      check(code == Z_OK || code == Z_STREAM_END, "{}: its gzip data is damaged ({})", path_.string(),
            stream_.msg == nullptr ? "zlib tells no more" : stream_.msg);
      between_members_ = code == Z_STREAM_END;
    }
    return size - stream_.avail_out;
  }

 private:
  static constexpr int kFlags = O_RDONLY | O_CLOEXEC;

  std::size_t read_file(void* to, std::size_t size) const {
    ssize_t got = 0;
    do got = ::read(descriptor_.get(), to, size);
    while (got < 0 && errno == EINTR);
    check(got >= 0, "{}: {}", path_.string(), errno_text(errno));
    return static_cast<std::size_t>(got);
  }
  void fill() {
    stream_.next_in = packed_.data();
    stream_.avail_in = static_cast<uInt>(read_file(packed_.data(), packed_.size()));
  }

  std::filesystem::path path_;
  Descriptor descriptor_;
  bool compressed_ = false, between_members_ = false;
  z_stream stream_{};
  std::array<Bytef, kBufferBytes> packed_;
};

LineReader::LineReader(const std::filesystem::path& path)
    : path_(path), source_(std::make_unique<Source>(path)), buffer_(kBufferBytes) {
  fill();
  skip_byte_order_mark();
}

LineReader::~LineReader() = default;

void LineReader::fill() {
  next_ = 0;
  end_ = source_->read(buffer_.data(), buffer_.size());
}

void LineReader::skip_byte_order_mark() {
  const std::string_view start(buffer_.data(), end_);
  refuse_utf16(start, path_.string());
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
    check(line.size() + length <= kMostRowBytes, "{}:{}: a row of more than {} bytes", path_.string(), line_,
          kMostRowBytes);
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
