// Internal to model/: safetensors split over several files, as model.safetensors.index.json lists them.
#pragma once

#include <filesystem>
#include <vector>

#include "model/safetensors.h"

namespace ember {

// Opens every shard that the index's weight_map names. Error naming the index (or the shard) and the tensor when a
// shard's name is anything but that of a .safetensors file in the index's own folder, a link that leads out of it, or
// missing; when a shard breaks the format; and when a tensor is in two shards, or not in just the one that weight_map
// says. metadata.total_size is not compared: published files have it wrong.
std::vector<SafetensorsFile> open_shards(const std::filesystem::path& index);

}  // namespace ember
