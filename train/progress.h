// What a person sees while training runs: one line that is redrawn on a terminal, plain lines elsewhere, or nothing.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string_view>

namespace ember {

struct ProgressReport {
  std::int64_t epoch = 0, epochs = 0;  // the epoch at hand, from 1, of how many
  std::int64_t step = 0, steps = 0;
  double loss = 0;
  double learning_rate = 0;
  double examples_per_second = 0;
  double seconds_left = 0;
};

class Progress {
 public:
  enum class Style { silent, lines, bar };
  static constexpr std::int64_t kLineEvery = 100;  // steps

  // A bar where standard error is a terminal, lines elsewhere.
  static Style style_for_stderr(bool quiet);
  explicit Progress(Style style, std::FILE* out = stderr) : style_(style), out_(out) {}
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  // Leaves the cursor at the start of a line of its own.
  ~Progress() { clear(); }

  // After every step. The bar is redrawn ten times a second at most; a line appears every kLineEvery steps and
  // at the last.
  void update(const ProgressReport& report);
  // A line that stays. `message` without its newline.
  void note(std::string_view message);

 private:
  bool silent() const { return style_ == Style::silent; }
  void clear();  // takes the bar away

  Style style_;
  std::FILE* out_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point next_drawing_{};
};

}  // namespace ember
