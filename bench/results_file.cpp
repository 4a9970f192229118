#include "bench/results_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "runtime/error.h"

namespace ember {
namespace {

constexpr std::string_view kClosing = "\n]}\n";

}  // namespace

ResultsFile::ResultsFile(const std::filesystem::path& path, std::string_view context)
    : name_(printable(path.string(), 200)), descriptor_(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666)) {
  check(descriptor_.is_open(), "{}: cannot be written: {}", name_, errno_text(errno));
  const std::string opening = fmt::format("{{\"context\": {}, \"results\": [", context);
  write(opening + std::string(kClosing));
  end_ = opening.size();
}

void ResultsFile::add(std::string_view result) {
  const std::string text = fmt::format("{}\n{}{}", count_ == 0 ? "" : ",", result, kClosing);
  write(text);
  end_ += text.size() - kClosing.size();
  ++count_;
}

// From the end of the last result on.
void ResultsFile::write(std::string_view text) {
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t written =
        ::pwrite(descriptor_.get(), text.data() + done, text.size() - done, static_cast<off_t>(end_ + done));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      const int error = written < 0 ? errno : ENOSPC;
      // Back to the document that was there: shorter, so there is room for it.
      if (end_ > 0 && ::ftruncate(descriptor_.get(), static_cast<off_t>(end_)) == 0)
        static_cast<void>(::pwrite(descriptor_.get(), kClosing.data(), kClosing.size(), static_cast<off_t>(end_)) < 0);
      fail("{}: cannot be written: {}; the {} results before are in it", name_, errno_text(error), count_);
    }
    done += static_cast<std::size_t>(written);
  }
}

}  // namespace ember
