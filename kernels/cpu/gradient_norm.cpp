// The L2 norm over all gradients: partial sums over fixed chunks, then their sum in order, so that neither the number
// of threads nor their timing changes a bit. In double: the squares of floats cannot overflow it, nor vanish in it.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/team.h"
#include "kernels/require.h"
#include "runtime/ceil_div.h"

namespace ember {
namespace {

constexpr std::int64_t kSquaresChunk = 8192;

std::int64_t chunks_of(const Tensor& tensor) {
  return ceil_div(tensor.size(), kSquaresChunk);
}

double sum_of_squares(const float* values, std::int64_t count) {
  constexpr int kLanes = 32;  // enough sums side by side that none waits for its last addition
  double sums[kLanes] = {};
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
#pragma omp simd
    for (int j = 0; j < kLanes; ++j) sums[j] += static_cast<double>(values[i + j]) * static_cast<double>(values[i + j]);
  }
  for (; i < count; ++i) sums[0] += static_cast<double>(values[i]) * static_cast<double>(values[i]);
  return std::accumulate(sums, sums + kLanes, 0.0);
}

}  // namespace

void CpuKernels::gradient_norm(StepState* state, std::span<const Tensor> gradients) {
  std::int64_t total = 0;
  for (const Tensor& gradient : gradients) {
    require(gradient.empty() || (gradient.contiguous() && gradient.dtype == DType::f32),
            "gradient_norm: f32 gradients whose rows are adjacent are needed");
    total += chunks_of(gradient);
  }
  auto* partial = static_cast<double*>(scratch(static_cast<std::size_t>(total) * sizeof(double)));
  in_team(threads_, [&](const Team& team) {
    std::int64_t first = 0;
    for (const Tensor& gradient : gradients) {
      const std::int64_t chunks = chunks_of(gradient);
      team.share(chunks, [&](std::int64_t c) {
        partial[first + c] = sum_of_squares(gradient.f32() + c * kSquaresChunk,
                                            std::min(kSquaresChunk, gradient.size() - c * kSquaresChunk));
      });
      first += chunks;
    }
  });
  double sum = 0;
  for (std::int64_t c = 0; c < total; ++c) sum += partial[c];
  state->gradient_norm = static_cast<float>(std::sqrt(sum) / static_cast<double>(state->loss_scale));
  state->finite = std::isfinite(state->gradient_norm) ? 1 : 0;
}

}  // namespace ember
