#include "model/safetensors_index.h"

#include <map>
#include <string>

#include "model/json_file.h"
#include "runtime/error.h"

namespace ember {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// Where the shard is. Its name comes with the download, so it must not reach beyond the folder that was downloaded.
fs::path shard_path(const fs::path& index, const std::string& tensor, const std::string& name) {
  const std::string where =
      fmt::format("{}: tensor {}: shard \"{}\"", index.string(), printable(tensor), printable(name));
  const bool base_name =
      !name.empty() && name[0] != '.' && name.find_first_of(std::string_view("/\\\0", 3)) == name.npos;
  check(base_name, "{} is not the name of a file in the index's folder", where);
  check(name.ends_with(".safetensors"), "{} does not end in .safetensors", where);
  const fs::path folder = index.has_parent_path() ? index.parent_path() : ".";
  std::error_code error;
  const fs::path home = fs::canonical(folder, error), real = fs::canonical(folder / name, error);
  check(!error, "{}: {}", where, error.message());
  check(real.parent_path() == home, "{} is a link that leads out of the index's folder, to {}", where,
        printable(real.string()));
  return folder / name;
}

json read_weight_map(const fs::path& index) {
  json object = read_json_object(index);
  const auto found = object.find("weight_map");
  check(found != object.end(), "{}: weight_map is missing", index.string());
  check(found->is_object() && !found->empty(), "{}: weight_map must be an object from tensors to files",
        index.string());
  for (const auto& [tensor, shard] : found->items())
    check(shard.is_string(), "{}: tensor {}: the name of a file was expected, not {}", index.string(),
          printable(tensor), shard.type_name());
  return std::move(*found);
}

}  // namespace

std::vector<SafetensorsFile> open_shards(const fs::path& index) {
  const json weight_map = read_weight_map(index);
  std::map<std::string, std::string> first_tensors;  // of each shard
  for (const auto& [tensor, shard] : weight_map.items()) first_tensors.emplace(shard, tensor);
  std::vector<SafetensorsFile> shards;
  std::map<std::string, std::string> seen;  // tensor -> shard
  for (const auto& [name, tensor] : first_tensors) {
    const SafetensorsFile& shard = shards.emplace_back(shard_path(index, tensor, name));
    for (const StoredTensor& stored : shard.tensors()) {
      const auto [other, fresh] = seen.emplace(stored.name, name);
      check(fresh, "{}: tensor {} is in two shards, {} and {}", index.string(), printable(stored.name), other->second,
            name);
    }
  }
  for (const auto& [tensor, name] : weight_map.items()) {
    const auto found = seen.find(tensor);
    const auto& shard = name.get_ref<const std::string&>();
    check(found != seen.end() && found->second == shard, "{}: tensor {} is not in {}, where weight_map has it",
          index.string(), printable(tensor), shard);
    seen.erase(found);
  }
  for (const auto& [tensor, shard] : seen)
    fail("{}: tensor {} is in {}, but not in weight_map", index.string(), printable(tensor), shard);
  return shards;
}

}  // namespace ember
