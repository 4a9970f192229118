// metrics.jsonl: one JSON object a line, appended as training goes on.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "runtime/descriptor.h"

namespace ember {

// Keys stay in the order in which they are written.
using MetricsEvent = nlohmann::ordered_json;

class MetricsLog {
 public:
  // Starts the file over with `content`: nothing, or what a checkpoint has kept.
  MetricsLog(const std::filesystem::path& path, const std::string& content);

  // Error naming the file when it cannot be written.
  void append(const MetricsEvent& event);
  // Everything written so far.
  const std::string& content() const { return content_; }
  static std::string line(const MetricsEvent& event) { return event.dump() + "\n"; }

 private:
  std::filesystem::path path_;
  std::string content_;
  Descriptor descriptor_;
};

}  // namespace ember
