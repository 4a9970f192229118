// The pooler's activation: bias, tanh and dropout, one row per sequence. The library's tanh, an element at a time,
// would be 3% of a sentence's prediction.
#include <algorithm>
#include <array>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/dropout.h"
#include "kernels/cpu/row_pass.h"
#include "kernels/cpu/vector_math.h"
#include "kernels/require.h"

namespace ember {
namespace {

// One row of the dropout's multipliers, ones where it is inactive.
void fill_multipliers(float* multipliers, std::int64_t row, std::int64_t cols, const Dropout& dropout) {
  if (dropout.active())
    dropout_multipliers(multipliers, row * cols, cols, dropout);
  else
    std::fill_n(multipliers, cols, 1.0f);
}

}  // namespace

void CpuKernels::tanh_forward(Tensor out, Tensor activated, Tensor in, Tensor bias, const Dropout& dropout) {
  const std::int64_t rows = out.rows, cols = out.cols;
  require(all_have_shape({out, activated, in}, rows, cols) && has_shape(bias, 1, cols), "tanh_forward: shapes");
  const RowPass pass(rows, cols, 1, threads_);
  pass.run(scratch(pass.scratch_bytes()), {}, [&](std::int64_t begin, std::int64_t end, const auto& vector) {
    for (std::int64_t r = begin; r < end; ++r) {
      float* multipliers = vector(0);
      fill_multipliers(multipliers, r, cols, dropout);
      const float *x = in.row(r), *shift = bias.f32();
      float *y = activated.row(r), *dropped = out.row(r);
#pragma omp simd
      for (std::int64_t c = 0; c < cols; ++c) {
        y[c] = vector_tanh(x[c] + shift[c]);
        dropped[c] = multipliers[c] * y[c];
      }
    }
  });
}

void CpuKernels::tanh_backward(Tensor din, Tensor dbias, Tensor dout, Tensor activated, const Dropout& dropout) {
  const std::int64_t rows = dout.rows, cols = dout.cols;
  require(all_have_shape({din, dout, activated}, rows, cols) && has_shape(dbias, 1, cols), "tanh_backward: shapes");
  const std::array sums{dbias};
  const RowPass pass(rows, cols, 2, threads_);
  pass.run(scratch(pass.scratch_bytes()), sums, [&](std::int64_t begin, std::int64_t end, const auto& vector) {
    float *total = vector(0), *multipliers = vector(1);
    for (std::int64_t r = begin; r < end; ++r) {
      fill_multipliers(multipliers, r, cols, dropout);
      const float *dy = dout.row(r), *y = activated.row(r);
      float* dx = din.row(r);
#pragma omp simd
      for (std::int64_t c = 0; c < cols; ++c) {
        dx[c] = multipliers[c] * dy[c] * (1.0f - y[c] * y[c]);
        total[c] += dx[c];
      }
    }
  });
}

}  // namespace ember
