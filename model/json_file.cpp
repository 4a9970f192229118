#include "model/json_file.h"

#include <set>
#include <string>
#include <vector>

#include "runtime/error.h"
#include "runtime/file.h"

namespace ember {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxBytes = std::size_t{16} << 20;
constexpr int kMaxDepth = 64;

// nlohmann-json keeps the last of equal keys; a file with both is ambiguous, so it is refused while it is parsed.
class KeyGuard {
 public:
  explicit KeyGuard(const std::filesystem::path& path) : path_(path) {}
  void operator()(int depth, json::parse_event_t event, const json& parsed) {
    using Event = json::parse_event_t;
    check(depth < kMaxDepth, "{}: nested deeper than {} levels", path_.string(), kMaxDepth);
    if (event == Event::object_start) seen_.emplace_back();
    if (event == Event::object_end) seen_.pop_back();
    if (event == Event::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      check(seen_.back().insert(key).second, "{}: key \"{}\" stands there twice", path_.string(), printable(key));
    }
  }

 private:
  const std::filesystem::path& path_;
  std::vector<std::set<std::string>> seen_;  // the keys of each open object
};

}  // namespace

std::string json_complaint(const std::exception& error) {
  const std::string_view text = error.what();
  const std::size_t tag = text.find("] ");  // "[json.exception.parse_error.101] parse error at line 1, ..."
  return printable(tag == text.npos ? text : text.substr(tag + 2), 200);
}

json read_json_object(const std::filesystem::path& path) {
  std::error_code unreadable;  // then reading says why
  const auto bytes = std::filesystem::file_size(path, unreadable);
  check(unreadable || bytes <= kMaxBytes, "{}: {} bytes, more than the {} allowed", path.string(), bytes, kMaxBytes);
  const std::string text = read_file(path);
  // The library would take a NUL for the end of the text.
  check(text.find('\0') == text.npos, "{}: not JSON: it holds a NUL byte", path.string());
  json object;
  try {
    KeyGuard guard(path);
    object = json::parse(text, [&](int depth, json::parse_event_t event, json& parsed) {
      guard(depth, event, parsed);
      return true;
    });
  } catch (const json::exception& error) {
    fail("{}: not JSON: {}", path.string(), json_complaint(error));
  }
  check(object.is_object(), "{}: a JSON object was expected, not {}", path.string(), object.type_name());
  return object;
}

}  // namespace ember
