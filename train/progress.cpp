#include "train/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <iterator>

namespace ember {
namespace {

using Text = fmt::memory_buffer;                                       // on the stack, so that a step allocates nothing
constexpr std::size_t kLeastBar = 4, kLargestBar = 24, kBarFrame = 3;  // the frame: brackets and a blank

std::size_t terminal_width(std::FILE* out) {
  winsize size{};
  if (::ioctl(::fileno(out), TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

// 4:05, 1:02:03.
void append_duration(Text& text, double seconds) {
  const auto s = static_cast<std::int64_t>(std::isfinite(seconds) ? std::max(0.0, std::round(seconds)) : 0);
  if (s >= 3600)
    fmt::format_to(std::back_inserter(text), "{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
  else
    fmt::format_to(std::back_inserter(text), "{}:{:02}", s / 60, s % 60);
}

void append_bar(Text& text, const ProgressReport& report, std::size_t width) {
  const auto done = static_cast<std::size_t>(static_cast<double>(width) * static_cast<double>(report.step) /
                                             static_cast<double>(std::max<std::int64_t>(1, report.steps)));
  fmt::format_to(std::back_inserter(text), "[{:=<{}}{:<{}}] ", "", done, "", width - std::min(done, width));
}

// `compact` leaves room for a bar on 80 columns.
void append_report(Text& text, const ProgressReport& report, bool compact) {
  const char* gap = compact ? " " : "  ";
  fmt::format_to(std::back_inserter(text), "epoch {}/{}{}step {}/{}{}loss {:.4f}{}lr {:.3g}{}{:.0f} {}{}left ",
                 report.epoch, report.epochs, gap, report.step, report.steps, gap, report.loss, gap,
                 report.learning_rate, gap, report.examples_per_second, compact ? "ex/s" : "examples/s", gap);
  append_duration(text, report.seconds_left);
}

}  // namespace

Progress::Style Progress::style_for_stderr(bool quiet) {
  if (quiet) return Style::silent;
  return ::isatty(STDERR_FILENO) != 0 ? Style::bar : Style::lines;
}

void Progress::update(const ProgressReport& report) {
  const bool last = report.step == report.steps;
  Text text;
  if (style_ == Style::lines && (report.step % kLineEvery == 0 || last)) {
    append_report(text, report, false);
    std::fprintf(out_, "%.*s\n", static_cast<int>(text.size()), text.data());
  } else if (style_ == Style::bar) {
    const auto now = std::chrono::steady_clock::now();
    if (now < next_drawing_ && !last) return;
    next_drawing_ = now + std::chrono::milliseconds(100);
    append_report(text, report, true);
    const std::size_t room = terminal_width(out_) - 1, shown = std::min(text.size(), room);
    Text bar;  // gets what the figures leave of the line, if that is worth it
    const std::size_t rest = room - shown;
    if (rest >= kLeastBar + kBarFrame) append_bar(bar, report, std::min(rest - kBarFrame, kLargestBar));
    std::fprintf(out_, "\r%.*s%.*s\x1b[K", static_cast<int>(bar.size()), bar.data(), static_cast<int>(shown),
                 text.data());
    std::fflush(out_);
    drawn_ = true;
  }
}

void Progress::note(std::string_view message) {
  if (silent()) return;
  clear();
  std::fprintf(out_, "%.*s\n", static_cast<int>(message.size()), message.data());
}

void Progress::clear() {
  if (!drawn_) return;
  std::fputs("\r\x1b[K", out_);
  std::fflush(out_);
  drawn_ = false;
}

}  // namespace ember
