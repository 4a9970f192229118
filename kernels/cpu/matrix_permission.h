// Whether this process may use AMX's matrix registers for bf16 and 8-bit integers: the processor must have them, and
// Linux must be asked, once, since they make what it keeps of each thread 8 KB larger (its documentation, "Using XSTATE
// features in user space applications").
#pragma once

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace ember {

inline bool may_use_matrix_registers() {
  constexpr unsigned kNeeded = 1u << 22 | 1u << 24 | 1u << 25;  // AMX-BF16, AMX-TILE, AMX-INT8 in leaf 7's edx
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (edx & kNeeded) == kNeeded &&
         syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace ember
