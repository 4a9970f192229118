// Products of few rows with a weight matrix, by a kernel of our own, where a step of a small batch spends its time:
// there a product waits for its launch and for its operands longer than it multiplies. Ours starts early, with its
// weights on their way before its rows are there, and what follows the product can be done in it
// (few_rows_product.cuh).
#pragma once

#include <cuda_runtime_api.h>

#include "runtime/cuda/device.h"
#include "runtime/tensor.h"

namespace ember {

struct FewRowsProduct {
  Tensor out, in, weight, bias;  // bias: of f16, or empty
  bool transposed;               // out = in weightᵀ + bias, weight (O, I); or else out = in weight, weight (I, O)
};

// Whether the kernel serves a product on a device: operands of f16 whose vectors of 8 are aligned, and blocks that are
// on the device all at once; and only where kernels start early (runtime/cuda/device.h), from compute capability 9.0
// on.
bool serves(const FewRowsProduct& product, const DeviceInfo& device);

namespace few_rows {

// Where and when it runs: GridStart::early if no grid that may still run writes the weights, which are read before the
// grid before this one is awaited.
struct Launch {
  const DeviceInfo& device;
  cudaStream_t stream;
  GridStart start;
};

}  // namespace few_rows

// out (M, O) from in (M, I), all f16, sums in f32, in one order. Requires serves().
void run(const FewRowsProduct& product, const few_rows::Launch& on);

}  // namespace ember
