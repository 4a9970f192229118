#include "data/line_reader.h"
#include "data/row_reader.h"
#include "runtime/utf8.h"

namespace ember {
namespace {

// Moves the quoted part that `rest` starts with to `field`, without its quotes and with doubled quotes made single.
void take_quoted(std::string_view& rest, std::string& field) {
  for (rest.remove_prefix(1);; rest.remove_prefix(1)) {
    const std::size_t quote = rest.find('"');
    if (quote == std::string_view::npos) throw BadRow("a quoted field has no closing quote");
    field += rest.substr(0, quote);
    rest.remove_prefix(quote + 1);
    if (!rest.starts_with('"')) return;
    field += '"';
  }
}

// Takes one field and the tab behind it off the front of `rest`; returns whether there was a tab. As in Python's csv
// module only a quote at the very start counts, and what follows the closing quote is taken as it stands.
bool take_field(std::string_view& rest, std::string& field) {
  field.clear();
  if (rest.starts_with('"')) take_quoted(rest, field);
  const std::size_t tab = rest.find('\t');
  field += rest.substr(0, tab);
  rest.remove_prefix(tab == std::string_view::npos ? rest.size() : tab + 1);
  return tab != std::string_view::npos;
}

class TsvReader : public RowReader {
 public:
  TsvReader(const std::filesystem::path& path, const Labels& labels) : lines_(path), labels_(labels) {}

  bool next(Example& row) override {
    std::string_view rest;
    do {
      line_.clear();
      if (!lines_.append_line(line_)) return false;
      rest = without_line_end(line_);
    } while (rest.empty());
    if (!take_field(rest, row.text)) throw BadRow("one column only, expected text <tab> labels");
    if (has_column_for_each_label(rest)) refuse_one_for_each(labels_.size(), labels_);
    take_field(rest, list_);
    parse_labels(list_, labels_, row.labels);
    repaired_ = repair_utf8(row.text);
    return true;
  }
  std::int64_t line() const override { return lines_.line(); }
  bool repaired() const override { return repaired_; }

 private:
  // Of the first of those columns its 0 or 1 would pass for an id, and the others for what may follow.
  bool has_column_for_each_label(std::string_view rest) const {
    bool columns = labels_.size() > 2 && std::ssize(rest) == 2 * labels_.size() - 1;
    for (std::size_t i = 0; columns && i < rest.size(); ++i)
      columns = i % 2 == 1 ? rest[i] == '\t' : rest[i] == '0' || rest[i] == '1';
    return columns;
  }

  LineReader lines_;
  const Labels& labels_;
  std::string line_, list_;
  bool repaired_ = false;
};

}  // namespace

std::unique_ptr<RowReader> read_tsv_rows(const std::filesystem::path& path, const Labels& labels) {
  return std::make_unique<TsvReader>(path, labels);
}

}  // namespace ember
