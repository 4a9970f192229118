// What the scalar rungs of attention share: the operands of kernels/cuda/attention_head.cuh, read half by half.
#pragma once

#include "bench/variants/cuda/device.cuh"
#include "bench/variants/ladder.h"
#include "kernels/cuda/attention_head.cuh"

namespace ember::variants {

struct AttentionOperands {
  explicit AttentionOperands(const AttentionCall& a)
      : call(attention::make_call(a.query, a.key, a.value, a.batch, a.heads, a.positions, Queries::all, a.dropout)),
        longest(static_cast<int>(a.batch.max_length)),
        dim(static_cast<int>(a.query.cols / a.heads)),
        out(rows_of<__half>(a.out)),
        query(rows_of<const __half>(a.query)),
        key(rows_of<const __half>(a.key)),
        value(rows_of<const __half>(a.value)) {}

  // The score of two rows of the batch, a dot product over the head's columns divided by sqrt(D).
  __device__ float score(int head, std::int64_t query_row, std::int64_t key_row) const {
    const __half *q = query[query_row] + head * dim, *k = key[key_row] + head * dim;
    float sum = 0;
    for (int d = 0; d < dim; ++d) sum += __half2float(q[d]) * __half2float(k[d]);
    return sum * call.scale;
  }
  // Puts dropout(softmax) in place of a row of scores; `block`: of the dropout stream, where its key 0 stands.
  __device__ void softmax(float* p, int length, std::int64_t block) const {
    float largest = -INFINITY, sum = 0;
    for (int j = 0; j < length; ++j) largest = fmaxf(largest, p[j]);
    for (int j = 0; j < length; ++j) sum += p[j] = expf(p[j] - largest);
    for (int j = 0; j < length; ++j) {
      float kept[1] = {p[j] / sum};
      apply_dropout(kept, call.mask, 4 * block + j);
      p[j] = kept[0];
    }
  }

  attention::Call call;
  int longest, dim;
  Rows<__half> out;
  Rows<const __half> query, key, value;
};

}  // namespace ember::variants
