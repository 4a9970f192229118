// Binary cross-entropy of a sigmoid, from the logits so that no probability is rounded to 0 or 1 before its logarithm.
// B K elements, a few hundred: one thread, and the loss summed in double.
#include <algorithm>
#include <cmath>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/require.h"

namespace ember {

void CpuKernels::sigmoid_bce(Tensor loss, Tensor dlogits, Tensor probabilities, Tensor logits, Tensor targets,
                             const StepState* state) {
  const std::int64_t rows = logits.rows, cols = logits.cols;
  const bool want_loss = loss.data != nullptr, want_gradient = !dlogits.empty(), want_scores = !probabilities.empty();
  require(has_shape(logits, rows, cols) && (!want_loss || has_shape(loss, 1, 1)) &&
              (!want_gradient || has_shape(dlogits, rows, cols)) &&
              (!want_scores || has_shape(probabilities, rows, cols)) &&
              ((!want_loss && !want_gradient) || has_shape(targets, std::min(targets.rows, rows), cols)),
          "sigmoid_bce: shapes");
  const std::int64_t scored = want_loss || want_gradient ? targets.rows : 0;
  const std::int64_t count = std::max<std::int64_t>(scored * cols, 1);
  const float gradient_scale = (state == nullptr ? 1.0f : state->loss_scale) / static_cast<float>(count);
  double total = 0;
  for (std::int64_t r = 0; r < rows; ++r) {
    const float* x = logits.row(r);
    const bool has_target = r < scored;
    const float* y = has_target ? targets.row(r) : nullptr;
    for (std::int64_t c = 0; c < cols; ++c) {
      const float power = std::exp(-std::fabs(x[c]));
      const float sigmoid = (x[c] >= 0 ? 1.0f : power) / (1.0f + power);
      if (want_scores) probabilities.row(r)[c] = sigmoid;
      if (want_gradient) dlogits.row(r)[c] = has_target ? gradient_scale * (sigmoid - y[c]) : 0;
      if (want_loss && has_target) total += std::max(x[c], 0.0f) - x[c] * y[c] + std::log1p(power);
    }
  }
  if (want_loss) *loss.f32() = static_cast<float>(total / static_cast<double>(count));
}

}  // namespace ember
