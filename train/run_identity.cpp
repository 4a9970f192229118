#include "train/run_identity.h"

#include <sstream>

#include "runtime/error.h"
#include "runtime/file.h"

namespace ember {
namespace {

using nlohmann::json;

}  // namespace

nlohmann::ordered_json to_json(const RunIdentity& identity) {
  return {{"flags", identity.flags}, {"data", identity.data}, {"model", identity.model}, {"threads", identity.threads}};
}

RunIdentity run_identity(const json& object) {
  return {object.at("flags"), object.at("data"), object.at("model"), object.at("threads")};
}

void require_same_run(const RunIdentity& before, const std::filesystem::path& then, const RunIdentity& now) {
  const std::string path = then.string();
  for (const auto& [flag, value] : now.flags) {
    const auto found = before.flags.find(flag);
    const std::string old = found == before.flags.end() ? "unknown" : found->second;
    check(old == value, "--resume: {} was made with {} {}, this run has {}", path, flag, printable(old), value);
  }
  check(before.data == now.data, "--resume: {} was made with other data (texts, labels or vocabulary)", path);
  check(before.model == now.model, "--resume: {} was made from another model (--model, or its starting weights)", path);
}

void require_restartable(const std::filesystem::path& metrics, const RunIdentity& now) {
  if (!std::filesystem::exists(metrics)) return;
  std::istringstream lines(read_file(metrics));
  std::string line;
  bool first = true;
  while (std::getline(lines, line)) {
    const json event = json::parse(line, nullptr, false);
    const std::string kind = event.is_object() ? event.value("event", "") : "";
    if (first) {
      check(kind == "start", "--resume: {} does not say which run it is of; --overwrite starts afresh",
            metrics.string());
      try {
        require_same_run(run_identity(event), metrics, now);
      } catch (const json::exception&) {
        fail("--resume: {}: its first line is damaged; --overwrite starts afresh", metrics.string());
      }
      first = false;
    }
    check(kind != "checkpoint" && kind != "end",
          "--resume: {} tells of checkpoints, and none is there; --overwrite starts afresh", metrics.string());
  }
}

}  // namespace ember
