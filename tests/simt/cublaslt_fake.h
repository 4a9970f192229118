// A cuBLASLt for the emulator that multiplies nothing. It offers the algorithms that a test says, remembers what it was
// asked, and writes the bias, or zeros, where a product would be: enough to run kernels/cuda/matmul.cpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <vector>

namespace simt {

struct FakeCublasLt {
  std::vector<std::uint64_t> offered{1};  // by the heuristic, best first
  std::set<std::uint64_t> failing;        // do not run after all
  std::set<std::uint64_t> refused;        // by the check of an algorithm

  struct Question {  // to the heuristic
    const void* bias;
    std::uint64_t reduction_schemes, workspace, step_of_d;
  };
  struct Product {  // that has run
    std::uint64_t algorithm;
    const void* bias;
    std::size_t workspace;
  };
  std::vector<Question> questions;
  std::vector<Product> products;
};

FakeCublasLt& cublaslt();

}  // namespace simt
