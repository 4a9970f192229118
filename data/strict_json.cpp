#include "data/strict_json.h"

#include <fmt/format.h>

#include <set>
#include <string_view>
#include <vector>

#include "runtime/error.h"

namespace ember {
namespace {

using nlohmann::json;
using Refuse = std::function<void(const std::string&)>;

// Refuses a key that its object has already. nlohmann-json keeps the last of them and says nothing. Its parser with a
// callback could tell, but searches the whole of an array at the end of every object in it, so that 1 MiB of empty
// objects takes it hours; this handler is linear.
class UniqueKeys final : public JsonEvents {
 public:
  UniqueKeys(std::size_t most_levels, const Refuse& refuse) : most_levels_(most_levels), refuse_(refuse) {}

  bool start_object(std::size_t) override { return enter(); }
  bool start_array(std::size_t) override { return enter(); }
  bool end_object() override { return leave(); }
  bool end_array() override { return leave(); }
  bool key(string_t& name) override {
    if (!open_.back().insert(name).second) refuse_(fmt::format("key \"{}\" stands there twice", printable(name)));
    return true;
  }

 private:
  bool enter() {
    open_.emplace_back();
    if (open_.size() > most_levels_) refuse_(fmt::format("nested deeper than {} levels", most_levels_));
    return true;
  }
  bool leave() {
    open_.pop_back();
    return true;
  }

  std::size_t most_levels_;
  const Refuse& refuse_;
  std::vector<std::set<std::string>> open_;  // the keys so far of every object (or array) around the cursor
};

}  // namespace

std::string json_complaint(const std::exception& error) {
  const std::string_view text = error.what();
  const std::size_t tag = text.find("] ");  // "[json.exception.parse_error.101] parse error at line 1, ..."
  return printable(tag == text.npos ? text : text.substr(tag + 2), 200);
}

json parse_strictly(const std::string& text, std::size_t most_levels, const Refuse& refuse) {
  // The library would take a NUL for the end of the text.
  if (text.find('\0') != text.npos) refuse("not JSON: it holds a NUL byte");
  UniqueKeys keys(most_levels, refuse);
  json::sax_parse(text, &keys);
  try {
    return json::parse(text);
  } catch (const json::exception& error) {
    refuse(fmt::format("not JSON: {}", json_complaint(error)));
    throw;  // not reached: refuse throws
  }
}

}  // namespace ember
