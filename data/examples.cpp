#include "data/examples.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "data/line_reader.h"
#include "data/row_reader.h"
#include "runtime/error.h"
#include "runtime/file.h"
#include "runtime/parse_whole.h"
#include "runtime/utf8.h"

namespace ember {
namespace {

namespace fs = std::filesystem;

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r";
  const std::size_t first = text.find_first_not_of(kBlank);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

bool is_integer(std::string_view text) {
  if (text.starts_with('-')) text.remove_prefix(1);
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

struct Format {
  const char* ending;
  std::unique_ptr<RowReader> (*open)(const fs::path&, const Labels&);
};
constexpr Format kFormats[] = {{".tsv", read_tsv_rows}, {".jsonl", read_jsonl_rows}, {".csv", read_csv_rows}};

std::unique_ptr<RowReader> open_rows(const fs::path& path, const Labels& labels) {
  const fs::path name = path.extension() == ".gz" ? path.stem() : path.filename();
  for (const Format& format : kFormats)
    if (name.extension() == format.ending) return format.open(path, labels);
  fail("{}: the name must end in .tsv, .jsonl or .csv (.gz may follow)", path.string());
}

}  // namespace

Labels::Labels(std::vector<std::string> names) : names_(std::move(names)) {}

Labels Labels::read(const fs::path& path) {
  LineReader lines(path);
  std::vector<std::string> names;
  std::set<std::string> seen;
  for (std::string line; lines.append_line(line); line.clear()) {
    std::string name(trimmed(without_line_end(line)));
    check(!repair_utf8(name), "{}:{}: the label is not UTF-8", path.string(), lines.line());
    check(!name.empty(), "{}:{}: the line is empty, expected a label", path.string(), lines.line());
    check(name.find('\t') == name.npos, "{}:{}: the label {} has a tab, expected a name alone", path.string(),
          lines.line(), printable(name));
    check(seen.insert(name).second, "{}:{}: the label {} stands twice", path.string(), lines.line(), printable(name));
    names.push_back(std::move(name));
    check(std::ssize(names) <= kMaxLabels, "{}:{}: more labels than {}", path.string(), lines.line(), kMaxLabels);
  }
  check(!names.empty(), "{}: is empty, expected one label a line", path.string());
  return Labels(std::move(names));
}

std::int32_t Labels::find(std::string_view name) const {
  const auto found = std::find(names_.begin(), names_.end(), name);
  return found == names_.end() ? -1 : static_cast<std::int32_t>(found - names_.begin());
}

std::int32_t numbered_label(std::string_view number, const Labels& labels) {
  const auto id = parse_whole<std::int32_t>(number);
  if (!id || *id < 0 || *id >= labels.size())
    throw BadRow(fmt::format("label {} is out of range, expected 0 to {}", printable(number), labels.size() - 1));
  return *id;
}

std::int32_t named_label(std::string_view name, const Labels& labels, const char* or_else) {
  const std::int32_t id = labels.find(name);
  if (id < 0)
    throw BadRow(fmt::format("label \"{}\" is unknown, expected a name of labels.txt{}", printable(name), or_else));
  return id;
}

void parse_labels(std::string_view list, const Labels& labels, std::vector<std::int32_t>& ids) {
  ids.clear();
  if (trimmed(list).empty()) return;
  bool numbers = true;
  for (std::size_t comma = 0; comma != std::string_view::npos;) {
    comma = list.find(',');
    const std::string_view word = trimmed(list.substr(0, comma));
    if (comma != std::string_view::npos) list.remove_prefix(comma + 1);
    if (word.empty()) throw BadRow("an empty label in the list");
    const bool number = is_integer(word);
    numbers = numbers && number;
    // A name first: labels may be named by numbers.
    ids.push_back(number && labels.find(word) < 0 ? numbered_label(word, labels)
                                                  : named_label(word, labels, " or an id"));
  }
  normalise_labels(ids, labels, numbers);
}

void normalise_labels(std::vector<std::int32_t>& ids, const Labels& labels, bool numbers) {
  const std::int64_t given = std::ssize(ids);
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  if (numbers && given >= labels.size() && std::ssize(ids) < given && ids.back() <= 1)
    refuse_one_for_each(given, labels);
}

void refuse_one_for_each(std::int64_t given, const Labels& labels) {
  throw BadRow(fmt::format("a 0 or 1 for each of {} labels{}, expected the ids or names of the row's own", given,
                           given == labels.size() ? "" : fmt::format(" (labels.txt has {})", labels.size())));
}

std::vector<std::string> notes_on(const ReadReport& report, const fs::path& path) {
  std::vector<std::string> notes;
  if (report.skipped > 0)
    notes.push_back(fmt::format("{}: {} malformed row{} skipped, the first: {}", path.string(), report.skipped,
                                report.skipped == 1 ? "" : "s", report.first_skipped));
  if (report.invalid_utf8 > 0)
    notes.push_back(fmt::format(
        "{}: {} {} bytes that are not UTF-8, the first at line {}; those are replaced by U+FFFD", path.string(),
        report.invalid_utf8, report.invalid_utf8 == 1 ? "row holds" : "rows hold", report.first_invalid_utf8));
  if (report.labelled == 0) notes.push_back(fmt::format("{}: no row has a label", path.string()));
  return notes;
}

std::vector<Example> read_examples(const fs::path& path, const Labels& labels, const ReadOptions& options,
                                   ReadReport* report) {
  ReadReport count;
  std::vector<Example> examples;
  const std::unique_ptr<RowReader> rows = open_rows(path, labels);
  for (Example row;;) {
    try {
      if (!rows->next(row)) break;
    } catch (const BadRow& bad) {
      const std::string message = fmt::format("{}:{}: {}", path.string(), rows->line(), bad.what());
      check(options.skip_bad_rows, "{}", message);
      if (count.skipped++ == 0) count.first_skipped = message;
      continue;
    }
    if (rows->repaired() && count.invalid_utf8++ == 0) count.first_invalid_utf8 = rows->line();
    count.labelled += row.labels.empty() ? 0 : 1;
    examples.push_back(std::exchange(row, {}));
  }
  count.rows = static_cast<std::int64_t>(examples.size());
  check(count.rows > 0 || count.skipped == 0, "{}: no good row, {} skipped; the first: {}", path.string(),
        count.skipped, count.first_skipped);
  check(count.rows > 0, "{}: holds no row", path.string());
  if (report != nullptr) *report = count;
  return examples;
}

fs::path find_split(const fs::path& directory, const std::string& split) {
  require_directory(directory, "of data");
  std::error_code error;
  fs::path found;
  for (const Format& format : kFormats) {
    for (const char* ending : {"", ".gz"}) {
      const fs::path candidate = directory / (split + format.ending + ending);
      const bool exists = fs::exists(candidate, error);
      check(!error, "{}: {}", candidate.string(), error.message());
      if (!exists) continue;
      check(found.empty(), "{}: holds both {} and {}, expected one of them", directory.string(),
            found.filename().string(), candidate.filename().string());
      found = candidate;
    }
  }
  check(!found.empty(), "{}: holds no {}.tsv, {}.jsonl or {}.csv (.gz may follow)", directory.string(), split, split,
        split);
  return found;
}

}  // namespace ember
