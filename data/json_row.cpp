#include "data/json_row.h"

#include <fmt/format.h>

#include <string_view>

#include "data/row_reader.h"
#include "data/unique_keys.h"
#include "runtime/error.h"

namespace ember {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxLevels = 1000;

}  // namespace

json parse_json_row(const std::string& line) {
  // The library would take a NUL for the end of the text.
  if (line.find('\0') != line.npos) throw BadRow("is not JSON: it holds a NUL byte");
  UniqueKeys keys(
      kMaxLevels,
      [](const std::string& key) { throw BadRow(fmt::format("the key \"{}\" stands twice", printable(key))); },
      [] { throw BadRow(fmt::format("is nested deeper than {} levels", kMaxLevels)); });
  json::sax_parse(line, &keys);
  try {
    return json::parse(line);
  } catch (const json::exception& error) {
    std::string_view what = error.what();
    if (const std::size_t end = what.find("] "); what.starts_with('[') && end != std::string_view::npos)
      what.remove_prefix(end + 2);
    throw BadRow(fmt::format("is not JSON: {}", printable(what, 160)));
  }
}

}  // namespace ember
