#include "train/run_identity.h"

#include <sstream>

#include "runtime/error.h"
#include "runtime/file.h"

namespace ember {
namespace {

using nlohmann::json;

// How to go on with what cannot be resumed: from a checkpoint, and where there is none.
constexpr const char* kTrainOn = "to train on, give its model as --model and name another --out";
constexpr const char* kStartAfresh = "--overwrite starts afresh";

bool is_event(const json& event, const char* name) {
  return event.is_object() && event.contains("event") && event["event"] == name;
}

void require_same(const RunIdentity& before, const std::filesystem::path& then, const RunIdentity& now,
                  const char* instead) {
  const std::string path = then.string();
  for (const auto& [flag, value] : now.flags) {
    const auto found = before.flags.find(flag);
    const std::string old = found == before.flags.end() ? "unknown" : found->second;
    check(old == value, "--resume: {} was made with {} {}, this run has {}; {}", path, flag, printable(old), value,
          instead);
  }
  check(before.data == now.data, "--resume: {} was made with other data (texts, labels or vocabulary); {}", path,
        instead);
  check(before.model == now.model, "--resume: {} was made from another model (--model, or its starting weights); {}",
        path, instead);
}

}  // namespace

nlohmann::ordered_json to_json(const RunIdentity& identity) {
  return {{"flags", identity.flags}, {"data", identity.data}, {"model", identity.model}, {"device", identity.device}};
}

RunIdentity run_identity(const json& object) {
  return {object.at("flags"), object.at("data"), object.at("model"), object.value("device", std::string())};
}

void require_same_run(const RunIdentity& before, const std::filesystem::path& then, const RunIdentity& now) {
  require_same(before, then, now, kTrainOn);
}

void require_restartable(const std::filesystem::path& metrics, const RunIdentity& now) {
  if (!std::filesystem::exists(metrics)) return;
  std::istringstream lines(read_file(metrics));
  std::string line;
  std::getline(lines, line);
  const json start = json::parse(line, nullptr, false);
  check(is_event(start, "start"), "--resume: {} does not say which run it is of; {}", metrics.string(), kStartAfresh);
  try {
    require_same(run_identity(start), metrics, now, kStartAfresh);
  } catch (const json::exception&) {
    fail("--resume: {}: its first line is damaged; {}", metrics.string(), kStartAfresh);
  }
  int checkpoints = 0;
  while (std::getline(lines, line)) {
    const json event = json::parse(line, nullptr, false);
    if (is_event(event, "checkpoint")) ++checkpoints;
    check(checkpoints < 2 && !is_event(event, "end"), "--resume: {} tells of checkpoints, and none is there; {}",
          metrics.string(), kStartAfresh);
  }
}

}  // namespace ember
