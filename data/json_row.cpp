#include "data/json_row.h"

#include "data/row_reader.h"
#include "data/strict_json.h"

namespace ember {

nlohmann::json parse_json_row(const std::string& line) {
  constexpr std::size_t kMostLevels = 1000;
  return parse_strictly(line, kMostLevels, [](const std::string& what) { throw BadRow(what); });
}

}  // namespace ember
