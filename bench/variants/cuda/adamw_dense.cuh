// What AdamW's dense rungs share: one tensor as their kernels see it, and the gradient of the whole embedding table,
// zeros but for the batch's rows (4 bytes an element written, before the update reads them).
#pragma once

#include "bench/variants/cuda/device.cuh"
#include "bench/variants/shipped.h"
#include "kernels/adamw_update.h"

namespace ember::variants {

// One tensor of `size` elements, and what its update at this step is.
struct AdamWTensor {
  AdamWTensor(const AdamWParameter& p, const AdamWCall& a)
      : weights(p.weights.f32()),
        m(p.first_moment.f32()),
        v(p.second_moment.f32()),
        working(p.working.empty() ? nullptr : static_cast<__half*>(p.working.data)),
        gradient(p.gradient.f32()),
        size(p.weights.size()),
        decayed(p.decayed),
        schedule(a.schedule),
        step(a.state),
        max_norm(a.max_norm) {}

  __device__ AdamWUpdate update() const {
    return decayed ? schedule[step->updates] : without_decay(schedule[step->updates]);
  }
  __device__ float scale() const { return gradient_scale(*step, max_norm); }

  float *weights, *m, *v;
  __half* working;
  const float* gradient;
  std::int64_t size;
  bool decayed;
  const AdamWUpdate* schedule;
  const StepState* step;
  float max_norm;
};

__global__ void scatter_rows_kernel(float* to, const std::int32_t* ids, Rows<const float> from, int cols) {
  for (int c = static_cast<int>(threadIdx.x); c < cols; c += static_cast<int>(blockDim.x))
    to[static_cast<std::int64_t>(ids[blockIdx.x]) * cols + c] = from[blockIdx.x][c];
}

inline Tensor dense_gradient(Device& device, const AdamWCall& a) {
  const Tensor &table = a.table.weights, &rows = a.table.gradient;
  const auto bytes = static_cast<std::size_t>(table.size()) * sizeof(float);
  auto* gradient = static_cast<float*>(device.scratch(bytes));
  check_cuda(cudaMemsetAsync(gradient, 0, bytes, device.stream), "clearing a gradient");
  if (!rows.empty())
    launch("scatter_rows", device.stream, dim3(static_cast<unsigned>(rows.rows)), dim3(128), 0, scatter_rows_kernel,
           gradient, a.ids, rows_of<const float>(rows), static_cast<int>(rows.cols));
  return matrix(gradient, table.rows, table.cols);
}

}  // namespace ember::variants
