// Keys that stand twice in an object of JSON text. nlohmann-json keeps the last of them and says nothing. Its parser
// with a callback could tell, but searches the whole of an array at the end of every object in it, so that 1 MiB of
// empty objects takes it hours; this handler is linear. Internal to data/ and model/.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace ember {

// Calls repeated(key) for a key that its object has already, and deep() where nesting exceeds max_depth; both should
// throw. Text that is not JSON ends it silently: whoever parses the text hears of it there.
template <typename Repeated, typename Deep>
class UniqueKeys final : public nlohmann::json_sax<nlohmann::json> {
 public:
  UniqueKeys(std::size_t max_depth, Repeated repeated, Deep deep)
      : max_depth_(max_depth), repeated_(std::move(repeated)), deep_(std::move(deep)) {}

  bool start_object(std::size_t) override { return enter(); }
  bool start_array(std::size_t) override { return enter(); }
  bool end_object() override { return leave(); }
  bool end_array() override { return leave(); }
  bool key(string_t& name) override {
    if (!open_.back().insert(name).second) repeated_(name);
    return true;
  }

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override { return false; }

 private:
  bool enter() {
    open_.emplace_back();
    if (open_.size() > max_depth_) deep_();
    return true;
  }
  bool leave() {
    open_.pop_back();
    return true;
  }

  std::size_t max_depth_;
  Repeated repeated_;
  Deep deep_;
  std::vector<std::set<std::string>> open_;  // the keys so far of every object (or array) around the cursor
};

}  // namespace ember
