// A linear layer and GELU in one kernel each way (Kernels::linear_gelu_forward), where rows are few
// (few_rows_product.cuh):
//
//   forward    before = in weightᵀ, rounded to f16; out = gelu(before + bias), of the rounded product, which backward
//              reads too
//   backward   din = (dout weight, rounded to f16) gelu'(before + bias); its column sums in two stages, a part for
//              every 16 rows (column_sums.cuh).
//
// So all but the order of the column sums is what the product and gelu.cu make. Moves what the product does, and 2 M O
// bytes forward, 2 M I + 4 I M / 16 backward.
#include <array>

#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/cuda_kernels.h"
#include "kernels/cuda/few_rows_product.cuh"
#include "kernels/cuda/gelu.cuh"
#include "kernels/cuda/matmul_operands.h"
#include "kernels/require.h"

namespace ember {
namespace {

using few_rows::kFragments;
using few_rows::LanePlaces;
using few_rows::pair_at;

// The bias of a lane's columns.
struct LaneBias {
  float values[kFragments][2] = {};

  __device__ LaneBias(const float* bias, const LanePlaces& at) {
    at.for_columns([&](int n, int column) {
      const float2 pair = *reinterpret_cast<const float2*>(bias + column);
      values[n][0] = pair.x, values[n][1] = pair.y;
    });
  }
};

struct Forward {
  Rows<__half> before, out;
  const float* bias;

  struct Lane {
    LaneBias bias;

    __device__ Lane(const Forward& to, const LanePlaces& at) : bias(to.bias, at) {}
    __device__ void ask(const Forward&, const LanePlaces&) {}
    __device__ void write(const Forward& to, const LanePlaces& at, const float (&d)[kFragments][4]) const {
      at.for_pairs([&](int half, int row, int n, int column) {
        const std::uint32_t stored = pack(&d[n][2 * half]);
        pair_at(to.before[row] + column) = stored;
        float x[2];
        unpack(x, stored);
#pragma unroll
        for (int j = 0; j < 2; ++j) x[j] = gelu(x[j] + bias.values[n][j]);
        pair_at(to.out[row] + column) = pack(x);
      });
    }
  };
};

struct Backward {
  Rows<__half> din;
  Rows<const __half> before;
  const float* bias;
  float* parts;
  int part_stride;

  struct Lane {
    LaneBias bias;
    std::uint32_t before[2][kFragments] = {};

    __device__ Lane(const Backward& to, const LanePlaces& at) : bias(to.bias, at) {}
    __device__ void ask(const Backward& to, const LanePlaces& at) {
      at.for_pairs([&](int half, int row, int n, int column) { before[half][n] = pair_at(to.before[row] + column); });
    }
    __device__ void write(const Backward& to, const LanePlaces& at, const float (&d)[kFragments][4]) const {
      float sums[kFragments][2] = {};
      at.for_pairs([&](int half, int row, int n, int column) {
        float x[2], dx[2];
        unpack(x, before[half][n]);
        unpack(dx, pack(&d[n][2 * half]));
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          dx[j] *= gelu_slope(x[j] + bias.values[n][j]);
          sums[n][j] += dx[j];
        }
        pair_at(to.din[row] + column) = pack(dx);
      });
      write_sums(to, at, sums);
    }
    // Over the eight lanes that have the same columns, then one writes the part of the warp's 16 rows.
    __device__ static void write_sums(const Backward& to, const LanePlaces& at, float (&sums)[kFragments][2]) {
#pragma unroll
      for (int offset = 4; offset < kWarpSize; offset *= 2)
#pragma unroll
        for (auto& pair : sums)
#pragma unroll
          for (float& sum : pair) sum += __shfl_xor_sync(~0u, sum, offset);
      if (lane_index() >= 4 || at.row(0) >= at.rows) return;
      float* part = to.parts + at.row(0) / few_rows::kWarpRows * to.part_stride;
      at.for_columns(
          [&](int n, int column) { *reinterpret_cast<float2*>(part + column) = make_float2(sums[n][0], sums[n][1]); });
    }
  };
};

}  // namespace

void CudaKernels::linear_gelu_forward(Tensor out, Tensor before, Tensor in, Tensor weight, Tensor bias) {
  const FewRowsProduct product{before, in, weight, {}, true};
  require(has_shape(out, in.rows, weight.rows, DType::f16) && has_shape(bias, 1, weight.rows, DType::f32),
          "linear_gelu_forward: shapes");
  require_forward_operands(before, in, weight, {});
  if (!serves(product, device_) || !vectorises(2, {out, bias}))
    return Kernels::linear_gelu_forward(out, before, in, weight, bias);
  few_rows::launch_few_rows<true>("linear_gelu", product,
                                  Forward{rows_of<__half>(before), rows_of<__half>(out), bias.f32()}, for_product());
}

void CudaKernels::linear_gelu_backward(Tensor din, Tensor dbias, Tensor dout, Tensor weight, Tensor before,
                                       Tensor bias) {
  const FewRowsProduct product{din, dout, weight, {}, false};
  require(has_shape(before, dout.rows, weight.cols, DType::f16) &&
              all_have_shape({dbias, bias}, 1, weight.cols, DType::f32),
          "linear_gelu_backward: shapes");
  require_backward_input_operands(din, dout, weight);
  if (!serves(product, device_) || !vectorises(2, {before, bias}))
    return Kernels::linear_gelu_backward(din, dbias, dout, weight, before, bias);
  const std::int64_t count = blocks_for(din.rows, few_rows::kWarpRows), stride = part_stride(din.cols);
  float* parts = deferred_.keep_parts(count, 1, din.cols);
  few_rows::launch_few_rows<false>(
      "linear_gelu_backward", product,
      Backward{rows_of<__half>(din), rows_of<const __half>(before), bias.f32(), parts, static_cast<int>(stride)},
      for_product());
  deferred_.add_parts(std::array{dbias}, parts, count);
}

}  // namespace ember
