#include "data/line_reader.h"
#include "data/row_reader.h"
#include "runtime/error.h"
#include "runtime/utf8.h"

namespace ember {
namespace {

// Records of RFC 4180: fields between commas, quoted ones with commas, line ends and doubled quotes inside.
class CsvRecords {
 public:
  explicit CsvRecords(const std::filesystem::path& path) : lines_(path) {}

  // The next record that is not a blank line. A quote that is never closed, or has text behind it, is an Error: where
  // the record ends cannot be known.
  bool next(std::vector<std::string>& fields) {
    do {
      fields.assign(1, "");
      record_.clear();
      if (!lines_.append_line(record_)) return false;
      first_line_ = lines_.line();
      state_ = State::kFieldStart;
      for (std::size_t begin = 0; !take_line(begin, fields);) {
        begin = record_.size();
        if (!lines_.append_line(record_))
          fail("{}:{}: a quoted field has no closing quote", lines_.path().string(), first_line_);
      }
    } while (fields.size() == 1 && fields[0].empty() && state_ == State::kFieldStart);
    return true;
  }
  std::int64_t first_line() const { return first_line_; }
  const std::filesystem::path& path() const { return lines_.path(); }

 private:
  enum class State { kFieldStart, kPlain, kQuoted, kQuoteInQuoted };

  // The line of the record that begins at `begin`. Returns whether the record ends with it. A line's end belongs to the
  // text only within quotes.
  bool take_line(std::size_t begin, std::vector<std::string>& fields) {
    const std::size_t body = without_line_end(record_).size();
    for (std::size_t i = begin; i < record_.size() && (i < body || state_ == State::kQuoted); ++i)
      take(record_[i], fields);
    return state_ != State::kQuoted;
  }

  void take(char c, std::vector<std::string>& fields) {
    const bool closed = state_ == State::kQuoteInQuoted;
    if (state_ == State::kQuoted) {
      if (c == '"')
        state_ = State::kQuoteInQuoted;
      else
        fields.back() += c;
    } else if (c == '"' && (closed || state_ == State::kFieldStart)) {
      if (closed) fields.back() += '"';
      state_ = State::kQuoted;
    } else if (c == ',') {
      fields.emplace_back();
      state_ = State::kFieldStart;
    } else {
      if (closed)
        fail("{}:{}: text behind a closing quote, expected a comma or the end of the line", lines_.path().string(),
             first_line_);
      fields.back() += c;
      state_ = State::kPlain;
    }
  }

  LineReader lines_;
  std::string record_;  // all lines of it, together no longer than a row may be
  State state_ = State::kFieldStart;
  std::int64_t first_line_ = 0;
};

class CsvReader : public RowReader {
 public:
  CsvReader(const std::filesystem::path& path, const Labels& labels) : records_(path), labels_(labels) {
    check(records_.next(fields_), "{}: is empty, expected a header with the columns text and labels", path.string());
    columns_ = fields_.size();
    text_ = column("text");
    list_ = column("labels");
  }

  bool next(Example& row) override {
    if (!records_.next(fields_)) return false;
    if (fields_.size() != columns_)
      throw BadRow(fmt::format("the row has columns: {}, the header: {}", fields_.size(), columns_));
    row.text = fields_[text_];
    parse_labels(fields_[list_], labels_, row.labels);
    repaired_ = repair_utf8(row.text);
    return true;
  }
  std::int64_t line() const override { return records_.first_line(); }
  bool repaired() const override { return repaired_; }

 private:
  std::size_t column(std::string_view name) const {
    std::size_t found = columns_;
    for (std::size_t i = 0; i < columns_; ++i) {
      if (fields_[i] != name) continue;
      check(found == columns_, "{}:{}: the header names the column {} twice", records_.path().string(), line(), name);
      found = i;
    }
    check(found != columns_, "{}:{}: the header names no column {}, expected text and labels", records_.path().string(),
          line(), name);
    return found;
  }

  CsvRecords records_;
  const Labels& labels_;
  std::vector<std::string> fields_;
  std::size_t columns_ = 0, text_ = 0, list_ = 0;
  bool repaired_ = false;
};

}  // namespace

std::unique_ptr<RowReader> read_csv_rows(const std::filesystem::path& path, const Labels& labels) {
  return std::make_unique<CsvReader>(path, labels);
}

}  // namespace ember
