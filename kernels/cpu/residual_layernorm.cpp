// The end of each half of an encoder layer: bias, dropout, residual and LayerNorm in one pass over the rows. Forward
// reads two matrices and writes two; backward reads three and writes two, with the column sums kept per chunk of rows.
#include <array>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/dropout.h"
#include "kernels/cpu/layernorm_row.h"
#include "kernels/cpu/row_pass.h"
#include "kernels/require.h"

namespace ember {
namespace {

// sum = residual + multipliers (in + bias); null multipliers are ones.
void add_residual(float* sum, const float* in, const float* bias, const float* residual, const float* multipliers,
                  std::int64_t cols) {
  if (multipliers == nullptr) {
#pragma omp simd
    for (std::int64_t c = 0; c < cols; ++c) sum[c] = residual[c] + (in[c] + bias[c]);
  } else {
#pragma omp simd
    for (std::int64_t c = 0; c < cols; ++c) sum[c] = residual[c] + multipliers[c] * (in[c] + bias[c]);
  }
}

// din = multipliers dsum, added to dbias.
void add_residual_backward(float* din, float* dbias, const float* dsum, const float* multipliers, std::int64_t cols) {
  if (multipliers == nullptr) {
#pragma omp simd
    for (std::int64_t c = 0; c < cols; ++c) {
      din[c] = dsum[c];
      dbias[c] += dsum[c];
    }
  } else {
#pragma omp simd
    for (std::int64_t c = 0; c < cols; ++c) {
      din[c] = multipliers[c] * dsum[c];
      dbias[c] += din[c];
    }
  }
}

}  // namespace

void CpuKernels::residual_layernorm_forward(Tensor out, Tensor sum, Moments moments, Tensor in, Tensor bias,
                                            Tensor residual, const LayerNormTensors& norm, float epsilon,
                                            const Dropout& dropout) {
  const std::int64_t rows = out.rows, cols = out.cols;
  require(all_have_shape({out, sum, in, residual}, rows, cols) &&
              all_have_shape({bias, norm.weight, norm.bias}, 1, cols) && has_room(moments.mean, moments.rstd, rows),
          "residual_layernorm_forward: shapes");
  const RowPass pass(rows, cols, 1, threads_);
  pass.run(scratch(pass.scratch_bytes()), {}, [&](std::int64_t begin, std::int64_t end, const auto& vector) {
    float* multipliers = dropout.active() ? vector(0) : nullptr;
    for (std::int64_t r = begin; r < end; ++r) {
      if (multipliers != nullptr) dropout_multipliers(multipliers, r * cols, cols, dropout);
      add_residual(sum.row(r), in.row(r), bias.f32(), residual.row(r), multipliers, cols);
      const RowMoments row = row_moments(sum.row(r), cols, epsilon);
      moments.mean.f32()[r] = row.mean;
      moments.rstd.f32()[r] = row.rstd;
      normalise_row(out.row(r), sum.row(r), row, norm.weight.f32(), norm.bias.f32(), cols);
    }
  });
}

void CpuKernels::residual_layernorm_backward(Tensor dresidual, Tensor din, Tensor dbias, const LayerNormTensors& dnorm,
                                             Tensor dout, Tensor dbranch, Tensor sum, Moments moments,
                                             const LayerNormTensors& norm, const Dropout& dropout) {
  const std::int64_t rows = dout.rows, cols = dout.cols;
  require(all_have_shape({dresidual, din, dout, sum}, rows, cols) &&
              all_have_shape({dbias, dnorm.weight, dnorm.bias, norm.weight}, 1, cols) &&
              (dbranch.empty() || has_shape(dbranch, rows, cols)) && has_room(moments.mean, moments.rstd, rows),
          "residual_layernorm_backward: shapes");
  const std::array sums{dnorm.weight, dnorm.bias, dbias};
  const RowPass pass(rows, cols, 4, threads_);
  pass.run(scratch(pass.scratch_bytes()), sums, [&](std::int64_t begin, std::int64_t end, const auto& vector) {
    float* multipliers = dropout.active() ? vector(3) : nullptr;
    for (std::int64_t r = begin; r < end; ++r) {
      const RowMoments row{moments.mean.f32()[r], moments.rstd.f32()[r]};
      const float* dy = output_gradient(dresidual.row(r), dout, dbranch, r);
      normalise_row_backward(dresidual.row(r), vector(0), vector(1), dy, sum.row(r), row, norm.weight.f32(), cols);
      if (multipliers != nullptr) dropout_multipliers(multipliers, r * cols, cols, dropout);
      add_residual_backward(din.row(r), vector(2), dresidual.row(r), multipliers, cols);
    }
  });
}

}  // namespace ember
