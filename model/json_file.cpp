#include "model/json_file.h"

#include "data/strict_json.h"
#include "runtime/error.h"
#include "runtime/file.h"

namespace ember {

nlohmann::json read_json_object(const std::filesystem::path& path) {
  nlohmann::json object = parse_strictly(read_file(path, kMaxJsonBytes), kMostJsonLevels,
                                         [&](const auto& what) { fail("{}: {}", path.string(), what); });
  check(object.is_object(), "{}: a JSON object was expected, not {}", path.string(), object.type_name());
  return object;
}

}  // namespace ember
