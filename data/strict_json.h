// JSON text that is read as it stands or not at all. Internal: no public header includes it.
#pragma once

#include <cstddef>
#include <exception>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

namespace ember {

// The value that `text` holds. Where it is not JSON, holds a NUL byte, has a key twice in one object or is nested
// deeper than `most_levels`, refuse(what is wrong) is called, which must throw. Takes time in proportion to the text.
nlohmann::json parse_strictly(const std::string& text, std::size_t most_levels,
                              const std::function<void(const std::string&)>& refuse);

// The part of a JSON library's message that helps a user.
std::string json_complaint(const std::exception& error);

// The events of a parse, all ignored. Of text that is not JSON they end where it is wrong, and nothing is said.
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
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override { return false; }
};

}  // namespace ember
