// What read_examples needs of a file format; one implementation each in examples_tsv.cpp, examples_jsonl.cpp and
// examples_csv.cpp. Internal to data/.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "data/examples.h"

namespace ember {

// What is wrong with one row, without file and line. Rows behind it can still be read.
class BadRow : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class RowReader {
 public:
  virtual ~RowReader() = default;
  // The next row; blank lines do not count. False at the end. Throws BadRow for this row alone, Error where reading on
  // makes no sense.
  virtual bool next(Example& row) = 0;
  virtual std::int64_t line() const = 0;  // where the row read last starts, from 1
  virtual bool repaired() const = 0;      // whether its text held invalid UTF-8
};

std::unique_ptr<RowReader> read_tsv_rows(const std::filesystem::path& path, const Labels& labels);
std::unique_ptr<RowReader> read_jsonl_rows(const std::filesystem::path& path, const Labels& labels);
std::unique_ptr<RowReader> read_csv_rows(const std::filesystem::path& path, const Labels& labels);

// The id that the decimal digits of `number` say. BadRow unless 0 <= id < labels.size().
std::int32_t numbered_label(std::string_view number, const Labels& labels);
// BadRow when `name` is none of the labels; `or_else` says what would have done, too.
std::int32_t named_label(std::string_view name, const Labels& labels, const char* or_else = "");
// Comma-separated names or ids, blanks around them ignored; empty for no label. BadRow for an unknown one or a gap.
void parse_labels(std::string_view list, const Labels& labels, std::vector<std::int32_t>& ids);
// BadRow for a 0 or 1 for each of `given` labels, which are no ids.
[[noreturn]] void refuse_one_for_each(std::int64_t given, const Labels& labels);
// Rising, each once. Where all are `numbers`, none a name: BadRow for a 0 or 1 for each label, or for more labels than
// there are, which would pass for the ids of the first two.
void normalise_labels(std::vector<std::int32_t>& ids, const Labels& labels, bool numbers);

}  // namespace ember
