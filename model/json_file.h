// Internal to model/: JSON files of a Hugging Face directory. Never included by a public header.
#pragma once

#include <cstddef>
#include <filesystem>
#include <nlohmann/json.hpp>

namespace ember {

// The parsed form of hostile text takes forty times its size.
constexpr std::size_t kMaxJsonBytes = std::size_t{3} << 19;
constexpr std::size_t kMostJsonLevels = 64;

// The object that the file holds. Error naming the file when it is unreadable, larger than that, malformed, nested
// deeper than kMostJsonLevels, repeats a key in any of its objects, or is no object.
nlohmann::json read_json_object(const std::filesystem::path& path);

}  // namespace ember
