#include "model/json_file.h"

#include <string>

#include "data/unique_keys.h"
#include "runtime/error.h"
#include "runtime/file.h"

namespace ember {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxDepth = 64;

}  // namespace

std::string json_complaint(const std::exception& error) {
  const std::string_view text = error.what();
  const std::size_t tag = text.find("] ");  // "[json.exception.parse_error.101] parse error at line 1, ..."
  return printable(tag == text.npos ? text : text.substr(tag + 2), 200);
}

json read_json_object(const std::filesystem::path& path) {
  const std::string text = read_file(path, kMaxJsonBytes);
  // The library would take a NUL for the end of the text.
  check(text.find('\0') == text.npos, "{}: not JSON: it holds a NUL byte", path.string());
  const std::string name = path.string();
  UniqueKeys keys(
      kMaxDepth, [&](const std::string& key) { fail("{}: key \"{}\" stands there twice", name, printable(key)); },
      [&] { fail("{}: nested deeper than {} levels", name, kMaxDepth); });
  json::sax_parse(text, &keys);
  json object;
  try {
    object = json::parse(text);
  } catch (const json::exception& error) {
    fail("{}: not JSON: {}", name, json_complaint(error));
  }
  check(object.is_object(), "{}: a JSON object was expected, not {}", path.string(), object.type_name());
  return object;
}

}  // namespace ember
