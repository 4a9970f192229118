// What makes two commands the same run, so that one may go on with what the other wrote.
#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

namespace ember {

struct RunIdentity {
  std::map<std::string, std::string> flags;  // those that the result depends on, by name
  std::string data, model;                   // fingerprints
  std::string device;                        // Kernels::device_name; may differ, and the last bits with it
};

// As members of an object, and back; json::exception for what is missing or of another type, but for the device, which
// older checkpoints do not name.
nlohmann::ordered_json to_json(const RunIdentity& identity);
RunIdentity run_identity(const nlohmann::json& json);

// Error naming `then`, a checkpoint, and the first flag that differs, the data or the model.
void require_same_run(const RunIdentity& before, const std::filesystem::path& then, const RunIdentity& now);

// Before a run starts over because there is no checkpoint: Error unless metrics.jsonl, if it is there, begins with
// the event "start" of the same run and tells neither of an end nor of two checkpoints, which then are gone. Of one it
// tells as soon as that is being written, and the run may have been killed in that.
void require_restartable(const std::filesystem::path& metrics, const RunIdentity& now);

}  // namespace ember
