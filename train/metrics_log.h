// metrics.jsonl: one JSON object a line, appended as training goes on.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

namespace ember {

// Keys stay in the order in which they are written.
using MetricsEvent = nlohmann::ordered_json;

class MetricsLog {
 public:
  // Starts the file over with `content`: nothing, or what a checkpoint has kept.
  MetricsLog(const std::filesystem::path& path, const std::string& content);
  MetricsLog(const MetricsLog&) = delete;
  MetricsLog& operator=(const MetricsLog&) = delete;
  ~MetricsLog();

  // Error naming the file when it cannot be written.
  void append(const MetricsEvent& event);
  // Everything written so far.
  const std::string& content() const { return content_; }
  static std::string line(const MetricsEvent& event) { return event.dump() + "\n"; }

 private:
  std::filesystem::path path_;
  std::string content_;
  int descriptor_ = -1;
};

}  // namespace ember
