#include <nlohmann/json.hpp>

#include "data/json_row.h"
#include "data/line_reader.h"
#include "data/row_reader.h"
#include "runtime/error.h"
#include "runtime/utf8.h"

namespace ember {
namespace {

using nlohmann::json;

std::int32_t label_of(const json& value, const Labels& labels) {
  if (value.is_string()) return named_label(value.get_ref<const std::string&>(), labels);
  if (!value.is_number_integer())
    throw BadRow(fmt::format("a label is {}, expected a name or an id", value.type_name()));
  return numbered_label(value.dump(), labels);
}

class JsonlReader : public RowReader {
 public:
  JsonlReader(const std::filesystem::path& path, const Labels& labels) : lines_(path), labels_(labels) {}

  bool next(Example& row) override {
    do {
      line_.clear();
      if (!lines_.append_line(line_)) return false;
    } while (line_.find_first_not_of(" \t\r\n") == std::string::npos);
    repaired_ = repair_utf8(line_);
    const json parsed = parse_json_row(line_);
    if (!parsed.is_object()) throw BadRow(fmt::format("is {}, expected an object", parsed.type_name()));
    row.text = member(parsed, "text", json::value_t::string).get<std::string>();
    row.labels.clear();
    bool numbers = true;
    for (const json& label : member(parsed, "labels", json::value_t::array)) {
      row.labels.push_back(label_of(label, labels_));
      numbers = numbers && label.is_number();
    }
    normalise_labels(row.labels, labels_, numbers);
    return true;
  }
  std::int64_t line() const override { return lines_.line(); }
  bool repaired() const override { return repaired_; }

 private:
  static const json& member(const json& object, const char* key, json::value_t type) {
    const auto found = object.find(key);
    if (found == object.end()) throw BadRow(fmt::format("has no \"{}\"", key));
    if (found->type() != type)
      throw BadRow(fmt::format("\"{}\" is {}, expected {}", key, found->type_name(), json(type).type_name()));
    return *found;
  }

  LineReader lines_;
  const Labels& labels_;
  std::string line_;
  bool repaired_ = false;
};

}  // namespace

std::unique_ptr<RowReader> read_jsonl_rows(const std::filesystem::path& path, const Labels& labels) {
  return std::make_unique<JsonlReader>(path, labels);
}

}  // namespace ember
