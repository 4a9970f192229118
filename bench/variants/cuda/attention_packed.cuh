// Attention, rung 2: the batch is packed, so that padding does not exist, and one kernel does a query's whole row of a
// head, one thread for each; the row of probabilities still lies in global memory, written and read by its thread
// alone.
//
// It should buy what the lengths say (the mean of L² over the square of the longest) and two launches. What is left:
// neighbouring threads keep their rows of probabilities 4 L bytes apart, so no access of a warp is to one place.
#pragma once

#include "bench/variants/cuda/attention_operands.cuh"

namespace ember::variants {

constexpr unsigned kQueryThreads = 64;

__global__ void __launch_bounds__(kQueryThreads) attention_packed_kernel(AttentionOperands a, float* scratch) {
  const attention::Head head(a.call);
  const auto row = static_cast<int>(blockIdx.y * kQueryThreads + threadIdx.x);
  if (row >= head.length) return;
  const std::int64_t token = std::int64_t{head.first_token} + row;
  float* p = scratch + (token * a.call.heads + head.head) * a.longest;
  for (int j = 0; j < head.length; ++j) p[j] = a.score(head.head, token, head.first_token + j);
  a.softmax(p, head.length, head.first_mask_block(row));
  for (int d = head.head * a.dim; d < (head.head + 1) * a.dim; ++d) {
    float sum = 0;
    for (int j = 0; j < head.length; ++j) sum += p[j] * __half2float(a.value[head.first_token + j][d]);
    a.out[token][d] = __float2half_rn(sum);
  }
}

// A block for every kQueryThreads queries of a head of a sequence.
inline dim3 query_grid(const AttentionCall& call) {
  return dim3(static_cast<unsigned>(call.batch.sequences * call.heads),
              blocks_for(call.batch.max_length, kQueryThreads));
}

inline void attention_packed(Device& device, const AttentionCall& call) {
  if (call.batch.sequences == 0) return;
  const AttentionOperands a(call);
  const std::int64_t probabilities = call.batch.tokens * call.heads * a.longest;
  auto* p = static_cast<float*>(device.scratch(static_cast<std::size_t>(probabilities) * sizeof(float)));
  launch("attention_packed", device.stream, query_grid(call), dim3(kQueryThreads), 0, attention_packed_kernel, a, p);
}

}  // namespace ember::variants
