// JSON text that is read as it stands or not at all. Internal: no public header includes it.
#pragma once

#include <cstddef>
#include <exception>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

namespace ember {

// Is told what is wrong, and must throw.
using Refuse = std::function<void(const std::string&)>;

// The events of a parse, all ignored. One that returns false ends it.
class JsonEvents : public nlohmann::json_sax<nlohmann::json> {
 public:
  bool start_object(std::size_t) override { return true; }
  bool start_array(std::size_t) override { return true; }
  bool end_object() override { return true; }
  bool end_array() override { return true; }
  bool key(string_t&) override { return true; }
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  // Not called: parse_events says itself what is wrong.
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) final { return false; }
};

// Hands `events` the parts of the value that `text` holds. Where it is not JSON, has a key twice in one object or is
// nested deeper than `most_levels`, `refuse` is called, after the events before that place; where it holds a NUL byte,
// before all. Takes time in proportion to the text, and memory for the keys of the objects around a place.
void parse_events(const std::string& text, std::size_t most_levels, JsonEvents& events, const Refuse& refuse);

// The value itself; what parse_events refuses it refuses.
nlohmann::json parse_strictly(const std::string& text, std::size_t most_levels, const Refuse& refuse);

// The part of a JSON library's message that helps a user.
std::string json_complaint(const std::exception& error);

}  // namespace ember
