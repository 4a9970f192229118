// A processor without AVX2, for which -DEMBER_MARCH=native builds, skips the programs of this folder by name.
#include <cstdio>
#include <cstdlib>

[[gnu::constructor(101)]] static void skip_without_avx2() {  // before any other, whose code may need it
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2")) return;
  std::puts("SKIPPED: the CPU's levels in software need AVX2");
  std::fflush(stdout);
  std::_Exit(0);
}
