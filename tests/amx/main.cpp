// The tests of linear layers on the tile of matrix registers, which stand in software (matrix_registers.h); the rest of
// the products is compiled for a processor with AVX512-BF16.
#include <gtest/gtest.h>

#include <cstdio>

int main(int argc, char** argv) {
  if (!__builtin_cpu_supports("avx512bf16")) {
    std::puts("SKIPPED: the products around the matrix registers need a processor with AVX512-BF16");
    return 0;
  }
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
