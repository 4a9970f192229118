// Attention, rung 1: as the formula stands for a padded batch (Vaswani et al. 2017, section 3.2), in three kernels with
// scores, then probabilities, of shape (B, H, L, L) in global memory between them, L being the longest; a mask of minus
// infinity takes the padding out again. A thread for a score, for a row of the softmax, for an element of the output.
//
// The operands are packed, so what would be a row of padding is read from the last row of its sequence: the same
// arithmetic and traffic without a copy. Rows of padding are computed and not stored.
//
// What is slow: L² of the longest instead of L² of each sequence; 4 B H L² bytes written three times and read four
// times or more; neighbouring threads of the softmax a row apart; and no number is used twice without being loaded
// twice.
#pragma once

#include "bench/variants/cuda/attention_operands.cuh"

namespace ember::variants {

// Where a task of the padded problem stands: row i of head h of sequence b.
struct PaddedRow {
  __device__ PaddedRow(const AttentionOperands& a, std::int64_t task)
      : i(static_cast<int>(task % a.longest)),
        head(static_cast<int>(task / a.longest % a.call.heads)),
        sequence(static_cast<int>(task / a.longest / a.call.heads)),
        first(a.call.cu_seqlens[sequence]),
        length(a.call.cu_seqlens[sequence + 1] - first) {}
  __device__ std::int64_t token(int place) const { return first + min(place, length - 1); }
  int i, head, sequence, first, length;
};

__global__ void padded_scores_kernel(AttentionOperands a, float* p, std::int64_t tasks) {
  const std::int64_t task = thread_in_grid();
  if (task >= tasks) return;
  const PaddedRow row(a, task / a.longest);
  const auto j = static_cast<int>(task % a.longest);
  const float score = a.score(row.head, row.token(row.i), row.token(j));
  p[task] = j < row.length ? score : -INFINITY;
}

__global__ void padded_softmax_kernel(AttentionOperands a, float* p, std::int64_t tasks) {
  const std::int64_t task = thread_in_grid();
  if (task >= tasks) return;
  const PaddedRow row(a, task);
  const std::int64_t block = ((std::int64_t{row.first} + row.i) * a.call.heads + row.head) * a.call.mask_blocks;
  a.softmax(p + task * a.longest, a.longest, block);
}

__global__ void padded_values_kernel(AttentionOperands a, const float* p, std::int64_t tasks) {
  const std::int64_t task = thread_in_grid();
  if (task >= tasks) return;
  const PaddedRow row(a, task / a.dim);
  const int column = row.head * a.dim + static_cast<int>(task % a.dim);
  float sum = 0;
  for (int j = 0; j < a.longest; ++j)
    sum += p[task / a.dim * a.longest + j] * __half2float(a.value[row.token(j)][column]);
  if (row.i < row.length) a.out[row.token(row.i)][column] = __float2half_rn(sum);
}

inline void attention_padded(Device& device, const AttentionCall& call) {
  const AttentionOperands a(call);
  const std::int64_t rows = call.batch.sequences * call.heads * a.longest, scores = rows * a.longest;
  auto* p = static_cast<float*>(device.scratch(static_cast<std::size_t>(scores) * sizeof(float)));
  launch_threads(device, "padded_scores", scores, 256, padded_scores_kernel, a, p, scores);
  launch_threads(device, "padded_softmax", rows, 128, padded_softmax_kernel, a, p, rows);
  launch_threads(device, "padded_values", rows * a.dim, 256, padded_values_kernel, a, p, rows * a.dim);
}

}  // namespace ember::variants
