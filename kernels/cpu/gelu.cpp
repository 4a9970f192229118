// GELU after a bias, exact (Hendrycks and Gimpel 2016): gelu(x) = x Phi(x), gelu'(x) = Phi(x) + x phi(x).
#include <array>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/row_pass.h"
#include "kernels/cpu/vector_math.h"
#include "kernels/require.h"

namespace ember {
namespace {

void gelu_row(float* out, const float* in, const float* bias, std::int64_t cols) {
#pragma omp simd
  for (std::int64_t c = 0; c < cols; ++c) {
    out[c] = vector_gelu(in[c] + bias[c]);
  }
}

void gelu_row_backward(float* din, float* dbias, const float* dout, const float* in, const float* bias,
                       std::int64_t cols) {
#pragma omp simd
  for (std::int64_t c = 0; c < cols; ++c) {
    const float dx = dout[c] * vector_gelu_slope(in[c] + bias[c]);
    din[c] = dx;
    dbias[c] += dx;
  }
}

}  // namespace

void CpuKernels::gelu_forward(Tensor out, Tensor in, Tensor bias) {
  const std::int64_t rows = out.rows, cols = out.cols;
  require(all_have_shape({out, in}, rows, cols) && has_shape(bias, 1, cols), "gelu_forward: shapes");
  RowPass(rows, cols, 0, threads_).run(nullptr, {}, [&](std::int64_t begin, std::int64_t end, const auto&) {
    for (std::int64_t r = begin; r < end; ++r) gelu_row(out.row(r), in.row(r), bias.f32(), cols);
  });
}

void CpuKernels::gelu_backward(Tensor din, Tensor dbias, Tensor dout, Tensor in, Tensor bias) {
  const std::int64_t rows = dout.rows, cols = dout.cols;
  require(all_have_shape({din, dout, in}, rows, cols) && all_have_shape({dbias, bias}, 1, cols),
          "gelu_backward: shapes");
  const std::array sums{dbias};
  const RowPass pass(rows, cols, 1, threads_);
  pass.run(scratch(pass.scratch_bytes()), sums, [&](std::int64_t begin, std::int64_t end, const auto& vector) {
    for (std::int64_t r = begin; r < end; ++r)
      gelu_row_backward(din.row(r), vector(0), dout.row(r), in.row(r), bias.f32(), cols);
  });
}

}  // namespace ember
