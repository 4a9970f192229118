#include "output.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>

#include "runtime/error.h"

namespace ember {

void write_output(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(STDOUT_FILENO, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && errno == EAGAIN) {  // a pipe that someone made non-blocking
      pollfd output{STDOUT_FILENO, POLLOUT, 0};
      ::poll(&output, 1, -1);
      continue;
    }
    check(written >= 0, "standard output: {}", errno_text(errno));
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

}  // namespace ember
