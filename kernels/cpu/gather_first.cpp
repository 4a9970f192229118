// The first row of each sequence, all that the pooler reads.
#include <cstring>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/require.h"

namespace ember {
namespace {

void check_shapes(const Tensor& of_sequences, const Tensor& of_tokens, const Batch& batch) {
  require(
      has_shape(of_sequences, batch.sequences, of_tokens.cols) && has_shape(of_tokens, batch.tokens, of_sequences.cols),
      "gather_first: shapes");
  for (std::int64_t b = 0; b < batch.sequences; ++b)
    require(batch.cu_seqlens[b] < batch.cu_seqlens[b + 1], "gather_first: a sequence without tokens");
}

}  // namespace

void CpuKernels::gather_first(Tensor out, Tensor in, const Batch& batch) {
  check_shapes(out, in, batch);
  for (std::int64_t b = 0; b < batch.sequences; ++b)
    std::memcpy(out.row(b), in.row(batch.cu_seqlens[b]), sizeof(float) * static_cast<std::size_t>(out.cols));
}

void CpuKernels::gather_first_backward(Tensor din, Tensor dout, const Batch& batch) {
  check_shapes(dout, din, batch);
  for (std::int64_t b = 0; b < batch.sequences; ++b) {
    float* to = din.row(batch.cu_seqlens[b]);
    const float* from = dout.row(b);
#pragma omp simd
    for (std::int64_t c = 0; c < dout.cols; ++c) to[c] += from[c];
  }
}

}  // namespace ember
