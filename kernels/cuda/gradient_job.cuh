// One gradient of a parameter among those that a launch computes together (deferred_gradients.cu).
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

namespace ember {

constexpr int kGradientThreads = 256;  // of a block

enum class GradientKind : std::int8_t {
  product,   // to = fromᵀ in, f16: weight_gradients.cuh, or Matmul's and then in no job
  few_rows,  // the same in floats: gradient_sums.cuh
  columns,   // to = the column sums of `from`, there
};

struct GradientJob {
  float* to;
  const void* from;
  const __half* in;
  std::int64_t to_stride, from_stride, in_stride;
  int rows, cols, inputs;  // of `from`; columns of `in`
  GradientKind kind;
  bool halves, vectors;  // whether `from` is f16; whether a thread may read 4 of its columns at once
};

}  // namespace ember
