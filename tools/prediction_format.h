// Predictions as text: which labels are shown, and how.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/classifier.h"

namespace ember {

enum class PredictionFormat { text, jsonl, tsv };

// Which labels of a text are shown: all; else the `top` best; else those whose score is at least `threshold`.
struct Selection {
  double threshold = 0.25;
  std::optional<std::int64_t> top;
  bool all = false;
};

class PredictionFormatter {
 public:
  // Error where TSV would have one name for two labels.
  PredictionFormatter(const Labels& labels, PredictionFormat format, const Selection& selection);

  // What comes before the first text: TSV's line of column names.
  std::string header() const;
  // Appends the line of one text. Bytes that are not UTF-8 become U+FFFD; in text and TSV a tab, line feed, carriage
  // return and backslash are written \t \n \r \\.
  //   text   TEXT <tab> joy 0.93, love 0.31
  //   jsonl  {"text":..., "labels":[{"label":..., "score":...}, ...]}; with `all` in the order of the label ids, and
  //          with "logits":[...]; scores and logits have the digits that give the 32-bit floats back
  //   tsv    text, labels and scores, both comma-separated, of a label whose name has a comma the id, as data files
  //          have it; with `all` text and one score a column
  void append(std::string& out, std::string_view text, const Scores& scores) const;

 private:
  std::vector<std::size_t> chosen(const Scores& scores) const;
  void append_text(std::string& out, const Scores& scores) const;
  void append_json(std::string& out, std::string_view text, const Scores& scores) const;
  void append_tsv(std::string& out, const Scores& scores) const;

  const Labels& labels_;
  PredictionFormat format_;
  Selection selection_;
};

}  // namespace ember
