// A cuBLASLt for the emulator: it multiplies as its descriptors say, on the CPU, offers the algorithms that a test says
// and remembers what it was asked. What the library may rely on it checks: operands in the device's memory and as
// aligned as its heuristic was promised, a workspace as large as the algorithm needs, attributes of their documented
// sizes, algorithms that it has offered.
#pragma once

#include <cublasLt.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <vector>

namespace simt {

struct FakeCublasLt {
  std::vector<std::uint64_t> offered{1};              // by the heuristic, best first
  std::set<std::uint64_t> unsupported;                // as the heuristic says of them
  std::set<std::uint64_t> slow;                       // by milliseconds
  std::set<std::uint64_t> failing;                    // do not run after all
  std::set<std::uint64_t> refused;                    // by the check of an algorithm
  std::map<std::uint64_t, std::size_t> workspace_of;  // where it is not 0
  std::size_t version = 1;
  cublasStatus_t starting = CUBLAS_STATUS_SUCCESS, answering = CUBLAS_STATUS_SUCCESS;  // how these end
  std::function<void()> meanwhile;  // happens during the next question

  struct Question {  // to the heuristic
    const void* bias;
    std::uint64_t reduction_schemes, workspace, step_of_d;
    std::array<std::uint64_t, 4> aligned;  // A, B, C and D
  };
  struct Product {  // that has run
    std::uint64_t algorithm;
    const void *bias, *workspace;
    std::size_t workspace_bytes;
    cudaStream_t stream;
  };
  std::vector<Question> questions;
  std::vector<Product> products;
  std::set<std::uint64_t> tried;  // algorithms that were to run
};

FakeCublasLt& cublaslt();

}  // namespace simt
