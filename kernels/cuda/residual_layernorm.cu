// The end of each half of an encoder layer: bias, dropout, residual and LayerNorm in one pass, and its backward
// (Kernels::residual_layernorm_forward; Devlin et al. 2019, section 3; Ba, Kiros and Hinton 2016).
//
//   forward    sum = residual + dropout(in + bias), rounded to f16; out = LayerNorm(sum), of the rounded sum, so that
//              backward, which reads it, differentiates what was computed.       (M, C) each
//   backward   from dout + dbranch: dresidual = gradient of sum, din = dropout's share of it; three column sums in two
//              stages (column_sums.cuh).
//
// One warp per row, two above C = 384, four above 768; a block has kRowWarps, and a lane holds its vectors of 4 in
// registers up to 1,024 (layernorm_row.cuh). Backward's warps keep their column sums from row to row.
// Forward moves 8 M C bytes (reads in and residual, writes sum and out) and does about 14 operations an element,
// backward 10 M C bytes, 12 bytes a column and block for the sums, and about 23 operations; dropout adds 25 an element.
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/dropout.cuh"
#include "kernels/cuda/layernorm_row.cuh"
#include "kernels/require.h"
#include "runtime/cuda/launch.h"

namespace ember {
namespace {

struct Forward {
  Rows<__half> out, sum;
  float *mean, *rstd;
  Rows<const __half> in, residual;
  const float* bias;
  LayerNormParameters norm;
  DropoutMask mask;
  int rows, cols;
};

template <int V, int N, int W>
__global__ void __launch_bounds__(kRowWarps* kWarpSize) residual_layernorm_kernel(Forward a) {
  const int row = static_cast<int>(blockIdx.x) * kBlockRows<W> + row_in_block<W>();
  Vector<V> x[kHeld<N>];
  Halves<V> ins[kHeld<N>], residuals[kHeld<N>];
  Vector<V> shifts[kHeld<N>];
  uint4 words[kHeld<N>];
  const auto element = [&](int c) { return static_cast<std::int64_t>(row) * a.cols + c; };
  if (N > 0 && row < a.rows)
    for_each_vector<V, N, W>(a.cols, [&](int i, int c) {
      load<V>(shifts[i], a.bias + c);
      if (a.mask.active()) words[i] = a.mask.words(static_cast<std::uint64_t>(element(c)) / 4);
    });
  await_previous_grid();
  if (row >= a.rows) return;
  const __half *in = a.in[row], *residual = a.residual[row];
  __half *out = a.out[row], *sum = a.sum[row];
  const auto ask = [&](int i, int c) {
    ins[i].ask(in + c);
    residuals[i].ask(residual + c);
    if (N == 0) load<V>(shifts[i], a.bias + c);
  };
  if (N > 0) for_each_vector<V, N, W>(a.cols, ask);
  for_each_vector<V, N, W>(a.cols, [&](int i, int c) {
    if (N == 0) ask(i, c);
    float add[V];
    ins[i].get(x[i]);
    residuals[i].get(add);
#pragma unroll
    for (int j = 0; j < V; ++j) x[i][j] += shifts[i][j];
    if constexpr (N == 0)
      apply_dropout(x[i], a.mask, element(c));
    else if (a.mask.active())
      apply_words(x[i], a.mask, words[i]);
#pragma unroll
    for (int j = 0; j < V; ++j) x[i][j] += add[j];
    store<V>(sum + c, x[i]);
    round_to_half(x[i]);
  });
  normalise_row<V, N, W>(x, sum, a.cols, a.mean + row, a.rstd + row, a.norm,
                         [&](int c, const float(&y)[V]) { store<V>(out + c, y); });
}

template <int V, int N, int W>
__global__ void __launch_bounds__(kRowWarps* kWarpSize)
    residual_layernorm_backward_kernel(LayerNormBackward a, Rows<__half> dresidual, Rows<__half> din,
                                       DropoutMask mask) {
  await_previous_grid();
  normalise_backward<V, N, W>(
      a, [](std::int64_t, int, const float(&)[V]) {},
      [&](std::int64_t row, int c, float(&dx)[V]) {
        store<V>(dresidual[row] + c, dx);
        apply_dropout(dx, mask, row * a.cols + c);
        store<V>(din[row] + c, dx);
      });
}

}  // namespace

void CudaKernels::residual_layernorm_forward(Tensor out, Tensor sum, Moments moments, Tensor in, Tensor bias,
                                             Tensor residual, const LayerNormTensors& norm, float epsilon,
                                             const Dropout& dropout) {
  const std::int64_t rows = out.rows, cols = out.cols;
  require(all_have_shape({out, sum, in, residual}, rows, cols, DType::f16) &&
              all_have_shape({bias, norm.weight, norm.bias}, 1, cols, DType::f32) &&
              has_room(moments.mean, moments.rstd, rows),
          "residual_layernorm_forward: shapes");
  if (out.empty()) return;
  const Forward a{rows_of<__half>(out),
                  rows_of<__half>(sum),
                  moments.mean.f32(),
                  moments.rstd.f32(),
                  rows_of<const __half>(in),
                  rows_of<const __half>(residual),
                  bias.f32(),
                  {norm.weight.f32(), norm.bias.f32(), epsilon},
                  DropoutMask(dropout),
                  static_cast<int>(rows),
                  static_cast<int>(cols)};
  const GridStart start = start_of_reader();
  with_row_layout(cols, vectorises(4, {out, sum, in, residual, bias, norm.weight, norm.bias}),
                  [&](auto v, auto n, auto w) {
                    launch(start, "residual_layernorm", stream(), dim3(blocks_for(rows, kBlockRows<w()>)),
                           dim3(kRowWarps * kWarpSize), 0, residual_layernorm_kernel<v(), n(), w()>, a);
                  });
}

void CudaKernels::residual_layernorm_backward(Tensor dresidual, Tensor din, Tensor dbias, const LayerNormTensors& dnorm,
                                              Tensor dout, Tensor dbranch, Tensor sum, Moments moments,
                                              const LayerNormTensors& norm, const Dropout& dropout) {
  const std::int64_t rows = dout.rows, cols = dout.cols;
  require(all_have_shape({dresidual, din, dout, sum}, rows, cols, DType::f16) &&
              all_have_shape({dbias, dnorm.weight, dnorm.bias, norm.weight}, 1, cols, DType::f32) &&
              (dbranch.empty() || has_shape(dbranch, rows, cols, DType::f16)) &&
              has_room(moments.mean, moments.rstd, rows),
          "residual_layernorm_backward: shapes");
  layernorm_backward(deferred_, {dnorm.weight, dnorm.bias, dbias}, dout, dbranch, sum, moments, norm.weight,
                     vectorises(4, {dresidual, din, dout, dbranch, sum, norm.weight}),
                     [&](auto v, auto n, auto w, dim3 blocks, std::size_t shared_bytes, const LayerNormBackward& a) {
                       launch_early("residual_layernorm_backward", stream(), blocks, dim3(kRowWarps * kWarpSize),
                                    shared_bytes, residual_layernorm_backward_kernel<v(), n(), w()>, a,
                                    rows_of<__half>(dresidual), rows_of<__half>(din), DropoutMask(dropout));
                     });
}

}  // namespace ember
