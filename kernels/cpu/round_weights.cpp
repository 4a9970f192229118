#include "kernels/cpu/bf16.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/require.h"

namespace ember {

void CpuKernels::round_weights(Tensor working, Tensor weight) {
  require(working.rows == weight.rows && working.cols == weight.cols, "round_weights: shapes");
  require(working.dtype == DType::bf16, "round_weights: only bf16 has a working copy on the CPU");
  for (std::int64_t r = 0; r < weight.rows; ++r) {
    auto* to = static_cast<std::uint16_t*>(working.data) + r * working.stride;
    round_row(to, weight.row(r), weight.cols);
  }
}

}  // namespace ember
