#include "input_lines.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "runtime/error.h"
#include "runtime/utf8.h"

namespace ember {
namespace {

// Drops the beginning of a UTF-8 character whose end was cut off.
void drop_broken_character(std::string& text) {
  std::size_t size = text.size();
  for (int bytes = 0; bytes < 3 && size > 0; ++bytes)
    if (!continues_character(text[--size])) return text.resize(size);
}

}  // namespace

bool InputLines::next(std::vector<std::string>& lines) {
  lines.clear();
  std::size_t bytes = 0;
  for (;;) {
    if (take(lines, bytes)) return true;
    if (ended_) {
      if (!line_.empty()) finish(lines);
      return !lines.empty();
    }
    if (!lines.empty() && !readable()) return true;
    fill();
  }
}

// Moves what the block holds into lines; true once the chunk is full.
bool InputLines::take(std::vector<std::string>& lines, std::size_t& bytes) {
  while (begin_ < end_) {
    const std::string_view rest(block_.data() + begin_, end_ - begin_);
    const std::size_t newline = rest.find('\n');
    extend(rest.substr(0, newline));
    if (newline == std::string_view::npos) {
      begin_ = end_;
      return false;
    }
    begin_ += newline + 1;
    bytes += finish(lines);
    if (lines.size() >= kChunkLines || bytes >= kChunkBytes) return true;
  }
  return false;
}

void InputLines::extend(std::string_view text) {
  if (cut_ || text.empty()) return;
  const std::size_t room = kLineBytes + 1 - line_.size();
  line_.append(text.substr(0, room));
  // A byte too many is none where it may be the carriage return of the line's end.
  if (line_.size() <= kLineBytes || (text.size() <= room && line_.back() == '\r')) return;
  const bool inside_character = continues_character(line_.back());
  line_.pop_back();
  if (inside_character) drop_broken_character(line_);
  cut_ = true;
  ++long_lines_;
}

std::size_t InputLines::finish(std::vector<std::string>& lines) {
  if (std::exchange(first_, false)) refuse_utf16(line_, "standard input");
  if (!cut_ && line_.ends_with('\r')) line_.pop_back();
  cut_ = false;
  lines.push_back(std::exchange(line_, {}));
  return lines.back().size();
}

bool InputLines::readable() const {
  pollfd input{descriptor_, POLLIN, 0};
  return ::poll(&input, 1, 0) > 0;
}

void InputLines::fill() {
  for (;;) {
    const ssize_t got = ::read(descriptor_, block_.data(), block_.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) {  // a stream that someone made non-blocking
      pollfd input{descriptor_, POLLIN, 0};
      ::poll(&input, 1, -1);
      continue;
    }
    check(got >= 0, "standard input: {}", errno_text(errno));
    begin_ = 0;
    end_ = static_cast<std::size_t>(got);
    ended_ = got == 0;
    return;
  }
}

}  // namespace ember
