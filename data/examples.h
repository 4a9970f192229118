// Labelled texts from files. A data directory holds train, dev and test, each as one of NAME.tsv, NAME.jsonl, NAME.csv,
// alone or with .gz after it, and labels.txt.
//   TSV    text <tab> comma-separated labels <tab> anything, no header; a field that starts with a double quote is
//          CSV-quoted (doubled quotes inside) as Python's csv module reads it, but ends with its line; as in GoEmotions
//   JSONL  {"text": "...", "labels": ["joy", 3, ...]} a line; other keys are ignored, no key may stand twice
//   CSV    RFC 4180 with a header that names the columns text and labels, among others; labels are comma-separated
// Labels are names or ids (in TSV and CSV a name wins over an id of the same spelling). A row may have no label at all:
// multi-label allows none. A label given twice counts once, but a 0 or 1 for each label is malformed. Text may be empty
// and may hold NUL. Lines end in LF or CR LF, the last one may lack it; empty lines (in JSONL those of blanks, too) and
// a byte order mark at the start are skipped. labels.txt names one label a line; its line number from 0 is the label's
// id.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace ember {

struct Example {
  std::string text;                  // UTF-8; invalid bytes are replaced by U+FFFD
  std::vector<std::int32_t> labels;  // ids, rising, each once
};

// More labels than this are refused.
inline constexpr std::int64_t kMaxLabels = 16384;

class Labels {
 public:
  Labels() = default;
  explicit Labels(std::vector<std::string> names);
  // One a line, blanks around it trimmed. Error naming file and line for a name that is empty, not UTF-8, repeated or
  // has a tab within, for no name, or for more than kMaxLabels.
  static Labels read(const std::filesystem::path& path);
  std::int64_t size() const { return static_cast<std::int64_t>(names_.size()); }
  const std::string& name(std::int64_t id) const { return names_.at(static_cast<std::size_t>(id)); }
  const std::vector<std::string>& names() const { return names_; }
  std::int32_t find(std::string_view name) const;  // -1 when unknown
  bool operator==(const Labels&) const = default;

 private:
  std::vector<std::string> names_;
};

struct ReadOptions {
  bool skip_bad_rows = false;  // count malformed rows and go on, instead of Error
};

struct ReadReport {
  std::int64_t rows = 0;                // kept
  std::int64_t labelled = 0;            // of them, those with a label
  std::int64_t skipped = 0;             // malformed, only with skip_bad_rows
  std::string first_skipped;            // the message of the first of them
  std::int64_t invalid_utf8 = 0;        // rows whose text, in JSONL whose line, had invalid UTF-8; they are kept
  std::int64_t first_invalid_utf8 = 0;  // line of the first of them
};

// What the user should know of a file that was read: rows skipped, bytes replaced, and that no row has a label.
std::vector<std::string> notes_on(const ReadReport& report, const std::filesystem::path& path);

// All examples of one file; the format follows from the name's ending. Error for a malformed row or one with a label
// that is unknown or out of range (file, line where the row starts, what is wrong); with skip_bad_rows these are
// counted and left out. Error in any case for a truncated or damaged .gz, a row of more than 16 MiB, a CSV header
// without the two columns, a CSV quote that is never closed or has text behind it (no one knows where the row ends), or
// a file without any (good) row.
std::vector<Example> read_examples(const std::filesystem::path& path, const Labels& labels,
                                   const ReadOptions& options = {}, ReadReport* report = nullptr);

// The file of `split` ("train", "dev" or "test") in a data directory. Error when there is none, or more than one.
std::filesystem::path find_split(const std::filesystem::path& directory, const std::string& split);

}  // namespace ember
