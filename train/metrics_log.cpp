#include "train/metrics_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "runtime/error.h"
#include "runtime/file.h"

namespace ember {

MetricsLog::MetricsLog(const std::filesystem::path& path, const std::string& content) : path_(path), content_(content) {
  write_file_atomically(path, content);
  descriptor_ = Descriptor(::open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
  check(descriptor_.is_open(), "{}: cannot be written: {}", path.string(), errno_text(errno));
}

void MetricsLog::append(const MetricsEvent& event) {
  const std::string text = line(event);
  for (std::size_t done = 0; done < text.size();) {
    const ssize_t written = ::write(descriptor_.get(), text.data() + done, text.size() - done);
    if (written < 0 && errno == EINTR) continue;
    check(written > 0, "{}: cannot be written: {}", path_.string(), errno_text(errno));
    done += static_cast<std::size_t>(written);
  }
  content_ += text;
}

}  // namespace ember
