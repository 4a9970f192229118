#include "data/strict_json.h"

#include <fmt/format.h>

#include <set>
#include <string_view>
#include <vector>

#include "runtime/error.h"

namespace ember {
namespace {

using nlohmann::json;

// Hands events on, and refuses a key that its object has already. nlohmann-json keeps the last of them and says
// nothing. Its parser with a callback could tell, but searches the whole of an array at the end of every object in it,
// so that 1 MiB of empty objects takes it hours; this handler is linear.
class Guard final : public nlohmann::json_sax<json> {
 public:
  Guard(std::size_t most_levels, JsonEvents& events, const Refuse& refuse)
      : most_levels_(most_levels), events_(events), refuse_(refuse) {}

  bool start_object(std::size_t size) override { return enter(), events_.start_object(size); }
  bool start_array(std::size_t size) override { return enter(), events_.start_array(size); }
  bool end_object() override { return open_.pop_back(), events_.end_object(); }
  bool end_array() override { return open_.pop_back(), events_.end_array(); }
  bool key(string_t& name) override {
    if (!open_.back().insert(name).second) refuse_(fmt::format("key \"{}\" stands there twice", printable(name)));
    return events_.key(name);
  }
  bool null() override { return events_.null(); }
  bool boolean(bool value) override { return events_.boolean(value); }
  bool number_integer(number_integer_t value) override { return events_.number_integer(value); }
  bool number_unsigned(number_unsigned_t value) override { return events_.number_unsigned(value); }
  bool number_float(number_float_t value, const string_t& text) override { return events_.number_float(value, text); }
  bool string(string_t& value) override { return events_.string(value); }
  bool binary(binary_t& value) override { return events_.binary(value); }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception& error) override {
    refuse_(fmt::format("not JSON: {}", json_complaint(error)));
    return false;
  }

 private:
  void enter() {
    open_.emplace_back();
    if (open_.size() > most_levels_) refuse_(fmt::format("nested deeper than {} levels", most_levels_));
  }

  std::size_t most_levels_;
  JsonEvents& events_;
  const Refuse& refuse_;
  std::vector<std::set<std::string>> open_;  // the keys so far of every object (or array) around the cursor
};

}  // namespace

std::string json_complaint(const std::exception& error) {
  const std::string_view text = error.what();
  const std::size_t tag = text.find("] ");  // "[json.exception.parse_error.101] parse error at line 1, ..."
  return printable(tag == text.npos ? text : text.substr(tag + 2), 200);
}

void parse_events(const std::string& text, std::size_t most_levels, JsonEvents& events, const Refuse& refuse) {
  // The library would take a NUL for the end of the text.
  if (text.find('\0') != text.npos) refuse("not JSON: it holds a NUL byte");
  Guard guard(most_levels, events, refuse);
  json::sax_parse(text, &guard);
}

json parse_strictly(const std::string& text, std::size_t most_levels, const Refuse& refuse) {
  JsonEvents ignored;
  parse_events(text, most_levels, ignored, refuse);
  return json::parse(text);
}

}  // namespace ember
