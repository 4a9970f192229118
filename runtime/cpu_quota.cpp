#include "runtime/cpu_quota.h"

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <sstream>
#include <string>

namespace ember {
namespace {

using std::filesystem::path;

// No number is read where there is no limit, "max", or no file.
int quota_of_group(const path& group, bool version_2) {
  std::int64_t quota = 0, period = 0;
  if (version_2) {
    std::ifstream(group / "cpu.max") >> quota >> period;
  } else {
    std::ifstream(group / "cpu.cfs_quota_us") >> quota;  // -1: no limit
    std::ifstream(group / "cpu.cfs_period_us") >> period;
  }
  if (quota <= 0 || period <= 0) return kNoQuota;
  // Not by ceil_div(), whose sum a quota that is large enough overflows.
  return static_cast<int>(std::min<std::int64_t>(quota / period + (quota % period > 0 ? 1 : 0), kNoQuota));
}

bool has_cpu(const std::string& controllers) {
  std::istringstream names(controllers);
  for (std::string name; std::getline(names, name, ',');)
    if (name == "cpu") return true;
  return false;
}

}  // namespace

int cpu_quota(const path& groups, const path& own) {
  int least = kNoQuota;
  std::ifstream lines(own);
  for (std::string number, controllers, group;
       std::getline(lines, number, ':') && std::getline(lines, controllers, ':') && std::getline(lines, group);) {
    const bool version_2 = controllers.empty();
    if (!version_2 && !has_cpu(controllers)) continue;
    const path root = version_2 ? groups : groups / "cpu";
    for (path at = group;; at = at.parent_path()) {
      least = std::min(least, quota_of_group(root / at.relative_path(), version_2));
      if (!at.has_relative_path()) break;
    }
  }
  return least;
}

}  // namespace ember
