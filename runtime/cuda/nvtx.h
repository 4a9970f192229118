// Named ranges in the timeline of NVIDIA's profilers, around what the host may wait in; kernels have names of their own
// there. Without a profiler they cost a branch.
#pragma once

#include <nvtx3/nvToolsExt.h>

namespace ember {

class ProfiledRange {
 public:
  explicit ProfiledRange(const char* name) { nvtxRangePushA(name); }
  ~ProfiledRange() { nvtxRangePop(); }
  ProfiledRange(const ProfiledRange&) = delete;
  ProfiledRange& operator=(const ProfiledRange&) = delete;
};

}  // namespace ember
