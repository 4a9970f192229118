// The CPU kernels of the best level of instructions that this processor has. kernels/cpu is compiled once for each
// level (kernels/CMakeLists.txt), so that one program is fast wherever it runs, or else for one, EMBER_MARCH's.
// EMBER_CPU_LEVEL in the environment asks for another level by name, to test or to measure it.
#include <cpuid.h>
#include <fmt/format.h>

#include <cstdlib>
#include <string>
#include <string_view>

#include "kernels/cpu/matrix_permission.h"
#include "kernels/kernels.h"
#include "runtime/error.h"

namespace ember {

#ifdef EMBER_ONE_LEVEL
std::unique_ptr<Kernels> make_cpu_kernels_here(Precision precision, int threads);
#else
std::unique_ptr<Kernels> make_cpu_kernels_avx2(Precision precision, int threads);
std::unique_ptr<Kernels> make_cpu_kernels_avx2_vnni(Precision precision, int threads);
std::unique_ptr<Kernels> make_cpu_kernels_avx512(Precision precision, int threads);
std::unique_ptr<Kernels> make_cpu_kernels_avx512_vnni(Precision precision, int threads);
std::unique_ptr<Kernels> make_cpu_kernels_avx512_bf16(Precision precision, int threads);
std::unique_ptr<Kernels> make_cpu_kernels_amx(Precision precision, int threads);
#endif

namespace {

struct Level {
  const char* name;
  bool present;
  std::unique_ptr<Kernels> (*make)(Precision precision, int threads);
};

#ifndef EMBER_ONE_LEVEL
// VNNI for vectors of 256 bits; clang 14 has no name for it.
bool has_avx_vnni() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 && (eax & 1u << 4) != 0;
}
#endif

// Best first. What x86-64-v3 and x86-64-v4 have besides has come with these in every processor.
const auto& levels() {
#ifdef EMBER_ONE_LEVEL
  static const Level all[] = {{EMBER_ONE_LEVEL, true, make_cpu_kernels_here}};
#else
  static const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                           __builtin_cpu_supports("bmi2"),
                    avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                             __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                             __builtin_cpu_supports("avx512vl"),
                    vnni = avx512 && __builtin_cpu_supports("avx512vnni"),
                    bf16 = vnni && __builtin_cpu_supports("avx512bf16"), amx = bf16 && may_use_matrix_registers();
  static const Level all[] = {{"amx", amx, make_cpu_kernels_amx},
                              {"avx512_bf16", bf16, make_cpu_kernels_avx512_bf16},
                              {"avx512_vnni", vnni, make_cpu_kernels_avx512_vnni},
                              {"avx512", avx512, make_cpu_kernels_avx512},
                              {"avx2_vnni", avx2 && has_avx_vnni(), make_cpu_kernels_avx2_vnni},
                              {"avx2", avx2, make_cpu_kernels_avx2}};
#endif
  return all;
}

const Level& best_level() {
  for (const Level& level : levels())
    if (level.present) return level;
  fail("this processor has no AVX2; build for it with cmake -DEMBER_MARCH=native");
}

const Level& level_named(std::string_view name) {
  std::string names;
  for (const Level& level : levels()) {
    if (level.name == name) {
      check(level.present, "EMBER_CPU_LEVEL={}: this processor lacks it; its best is {}", name, best_level().name);
      return level;
    }
    names += fmt::format("{}{}", names.empty() ? "" : ", ", level.name);
  }
  fail("EMBER_CPU_LEVEL={}: no such level, expected one of {}", printable(name), names);
}

}  // namespace

std::unique_ptr<Kernels> make_cpu_kernels(Precision precision, int threads) {
  const char* name = std::getenv("EMBER_CPU_LEVEL");
  const Level& level = name != nullptr && *name != '\0' ? level_named(name) : best_level();
  return level.make(precision, threads);
}

}  // namespace ember
