// The loss (Kernels::sigmoid_bce): binary cross-entropy of sigmoid(x), its gradient times the loss scale, and the
// probabilities, in one kernel, from the logits so that no probability is rounded to 0 or 1 before its logarithm.
// (B, K): a few hundred elements in training.
//
// One block, so that the mean needs no second kernel: a thread takes every kThreads-th element, then the threads' sums
// are added in a fixed order (reduce.cuh). Moves 14 B K bytes; an exponential, a logarithm and a division an element.
#include <algorithm>
#include <limits>

#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/reduce.cuh"
#include "kernels/require.h"
#include "runtime/cuda/launch.h"

namespace ember {
namespace {

constexpr int kThreads = 512;

// Null outputs are not computed.
struct Operands {
  float* loss;
  Rows<__half> dlogits;
  Rows<float> probabilities;
  Rows<const float> logits, targets;
  const StepState* state;
  int rows, scored, cols;  // `scored` rows have targets
};

__global__ void __launch_bounds__(kThreads) sigmoid_bce_kernel(Operands a) {
  await_previous_grid();
  const int size = a.rows * a.cols;
  const float count = static_cast<float>(max(a.scored * a.cols, 1));
  const float gradient_scale = (a.state == nullptr ? 1.0f : a.state->loss_scale) / count;
  float total = 0;
  for (int i = static_cast<int>(threadIdx.x); i < size; i += kThreads) {
    const int row = i / a.cols, c = i % a.cols;
    const float x = a.logits[row][c], power = expf(-fabsf(x));
    const float sigmoid = (x >= 0 ? 1.0f : power) / (1.0f + power);
    if (a.probabilities.data != nullptr) a.probabilities[row][c] = sigmoid;
    if (row >= a.scored) {
      if (a.dlogits.data != nullptr) a.dlogits[row][c] = __float2half_rn(0.0f);
      continue;
    }
    const float y = a.targets[row][c];
    if (a.dlogits.data != nullptr) a.dlogits[row][c] = __float2half_rn(gradient_scale * (sigmoid - y));
    total += fmaxf(x, 0.0f) - x * y + log1pf(power);
  }
  total = block_sum<kThreads>(total);
  if (threadIdx.x == 0 && a.loss != nullptr) *a.loss = total / count;
}

}  // namespace

void CudaKernels::sigmoid_bce(Tensor loss, Tensor dlogits, Tensor probabilities, Tensor logits, Tensor targets,
                              const StepState* state) {
  const std::int64_t rows = logits.rows, cols = logits.cols;
  const bool want_loss = loss.data != nullptr, want_gradient = !dlogits.empty(), want_scores = !probabilities.empty();
  require(rows * cols <= std::numeric_limits<int>::max(), "sigmoid_bce: more than 2^31 logits");
  require(has_shape(logits, rows, cols) && (!want_loss || has_shape(loss, 1, 1)) &&
              (!want_gradient || has_shape(dlogits, rows, cols, DType::f16)) &&
              (!want_scores || has_shape(probabilities, rows, cols)) &&
              ((!want_loss && !want_gradient) || has_shape(targets, std::min(targets.rows, rows), cols)),
          "sigmoid_bce: shapes");
  if (!want_loss && (logits.empty() || (!want_gradient && !want_scores))) return;
  const Operands a{want_loss ? loss.f32() : nullptr,
                   rows_of<__half>(want_gradient ? dlogits : Tensor{}),
                   rows_of<float>(want_scores ? probabilities : Tensor{}),
                   rows_of<const float>(logits),
                   rows_of<const float>(want_loss || want_gradient ? targets : Tensor{}),
                   state,
                   static_cast<int>(rows),
                   static_cast<int>(want_loss || want_gradient ? targets.rows : 0),
                   static_cast<int>(cols)};
  launch_early("sigmoid_bce", stream(), dim3(1), dim3(kThreads), 0, sigmoid_bce_kernel, a);
}

}  // namespace ember
