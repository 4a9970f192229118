// A line of JSON Lines (https://jsonlines.org). Internal to data/ and tools/.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace ember {

// BadRow where the line is not JSON, holds a NUL byte, has a key twice in one object or is nested deeper than 1,000
// levels. Takes time in proportion to the line.
nlohmann::json parse_json_row(const std::string& line);

}  // namespace ember
