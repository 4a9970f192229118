#include "prediction_format.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>

#include "runtime/error.h"
#include "runtime/utf8.h"

namespace ember {
namespace {

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\t')
      out += "\\t";
    else if (c == '\n')
      out += "\\n";
    else if (c == '\r')
      out += "\\r";
    else if (c == '\\')
      out += "\\\\";
    else
      out += c;
  }
  return out;
}

bool has_comma(std::string_view name) {
  return name.find(',') != std::string_view::npos;
}

std::string json_string(std::string_view text) {
  return nlohmann::json(text).dump();
}

}  // namespace

PredictionFormatter::PredictionFormatter(const Labels& labels, PredictionFormat format, const Selection& selection)
    : labels_(labels), format_(format), selection_(selection) {
  if (format != PredictionFormat::tsv || selection.all) return;
  for (std::int64_t id = 0; id < labels.size(); ++id)
    check(!has_comma(labels.name(id)) || labels.find(std::to_string(id)) < 0,
          "--format tsv: label \"{}\" has a comma, so that its id {} would stand there, but that is another label's "
          "name; use --all or jsonl",
          printable(labels.name(id)), id);
}

std::string PredictionFormatter::header() const {
  if (format_ != PredictionFormat::tsv) return {};
  if (!selection_.all) return "text\tlabels\tscores\n";
  std::string out = "text";
  for (const std::string& name : labels_.names()) out += '\t' + escaped(name);
  return out + '\n';
}

void PredictionFormatter::append(std::string& out, std::string_view text, const Scores& scores) const {
  std::string clean(text);
  repair_utf8(clean);
  if (format_ == PredictionFormat::jsonl) {
    append_json(out, clean, scores);
  } else {
    out += escaped(clean) + '\t';
    format_ == PredictionFormat::text ? append_text(out, scores) : append_tsv(out, scores);
  }
  out += '\n';
}

// Ids of the labels to show, best first; of equal ones the lower id first.
std::vector<std::size_t> PredictionFormatter::chosen(const Scores& scores) const {
  const std::vector<float>& p = scores.probabilities;
  std::vector<std::size_t> ids(p.size());
  std::iota(ids.begin(), ids.end(), std::size_t{0});
  std::stable_sort(ids.begin(), ids.end(), [&](std::size_t a, std::size_t b) { return p[a] > p[b]; });
  if (selection_.all) return ids;
  if (selection_.top) {
    ids.resize(std::min(ids.size(), static_cast<std::size_t>(*selection_.top)));
    return ids;
  }
  const auto threshold = static_cast<float>(selection_.threshold);
  std::erase_if(ids, [&](std::size_t id) { return !(p[id] >= threshold); });
  return ids;
}

void PredictionFormatter::append_text(std::string& out, const Scores& scores) const {
  const std::vector<std::size_t> ids = chosen(scores);
  if (ids.empty()) out += fmt::format("nothing above {}", selection_.threshold);
  for (const std::size_t id : ids)
    out += fmt::format("{}{} {:.2f}", id == ids.front() ? "" : ", ", escaped(labels_.names()[id]),
                       scores.probabilities[id]);
}

void PredictionFormatter::append_json(std::string& out, std::string_view text, const Scores& scores) const {
  std::vector<std::size_t> ids = chosen(scores);
  if (selection_.all) std::sort(ids.begin(), ids.end());
  out += fmt::format("{{\"text\":{},\"labels\":[", json_string(text));
  for (const std::size_t id : ids)
    out += fmt::format("{}{{\"label\":{},\"score\":{}}}", id == ids.front() ? "" : ",",
                       json_string(labels_.names()[id]), scores.probabilities[id]);
  out += ']';
  if (selection_.all) out += fmt::format(",\"logits\":[{:.9g}]", fmt::join(scores.logits, ","));
  out += '}';
}

void PredictionFormatter::append_tsv(std::string& out, const Scores& scores) const {
  if (selection_.all) {
    out += fmt::format("{:.6f}", fmt::join(scores.probabilities, "\t"));
    return;
  }
  const std::vector<std::size_t> ids = chosen(scores);
  for (const std::size_t id : ids) {
    if (id != ids.front()) out += ',';
    const std::string& name = labels_.names()[id];
    out += has_comma(name) ? std::to_string(id) : escaped(name);
  }
  out += '\t';
  for (const std::size_t id : ids)
    out += fmt::format("{}{:.6f}", id == ids.front() ? "" : ",", scores.probabilities[id]);
}

}  // namespace ember
