// What a container may take of a machine's processors: its threads see all of them, but once they have run for the
// quota of a period they all stop until the next, at whatever barrier the others wait.
#pragma once

#include <filesystem>

namespace ember {

inline constexpr int kNoQuota = 1 << 30;

// The processors' time that the process' control groups let it have at once, in whole processors, rounded up; kNoQuota
// where nothing limits it or no one says. The least of its group's and of all groups around that: cpu.max of version 2
// (https://docs.kernel.org/admin-guide/cgroup-v2.html), cpu.cfs_quota_us and cpu.cfs_period_us of version 1
// (https://docs.kernel.org/scheduler/sched-bwc.html). `groups`: where these are mounted, version 1's controller in
// cpu/; `own`: the list of the process' groups (cgroups(7)). Groups that it names and that cannot be seen, as from
// within a container that is shown its own in the root's place, are passed over.
int cpu_quota(const std::filesystem::path& groups = "/sys/fs/cgroup",
              const std::filesystem::path& own = "/proc/self/cgroup");

}  // namespace ember
