// Linear layers: out = in weightᵀ + bias and its two backward products, by oneDNN. In fp32 its sgemm, which packs both
// operands as it goes, or for few rows and a frozen weight the product of packed_product.h; with bf16 weights a bf16 x
// bf16 -> fp32 matmul, the other operand rounded on the way in.
#include <algorithm>
#include <array>
#include <oneapi/dnnl/dnnl.hpp>

#include "kernels/cpu/bf16.h"
#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/packed_product.h"
#include "kernels/cpu/row_pass.h"
#include "kernels/require.h"

namespace ember {
namespace {

// c = beta c + op(a) op(b), row-major, op(x) = xᵀ where the flag says so.
void sgemm(bool transpose_a, bool transpose_b, Tensor c, Tensor a, Tensor b, float beta) {
  const std::int64_t inner = transpose_a ? a.rows : a.cols;
  const dnnl_status_t status = dnnl_sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', c.rows, c.cols, inner, 1.0f,
                                          a.f32(), a.stride, b.f32(), b.stride, beta, c.f32(), c.stride);
  require(status == dnnl_success, "oneDNN's sgemm failed");
}

dnnl::memory::desc describe(Tensor t, bool transpose) {
  const auto type = t.dtype == DType::bf16 ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32;
  if (transpose) return {{t.cols, t.rows}, type, dnnl::memory::dims{1, t.stride}};
  return {{t.rows, t.cols}, type, dnnl::memory::dims{t.stride, 1}};
}

// The same for operands in bf16 and c in fp32. oneDNN keeps the primitive of a shape in its own cache.
void bf16_matmul(bool transpose_a, bool transpose_b, Tensor c, Tensor a, Tensor b, bool accumulate) {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  static thread_local dnnl::stream stream(engine);
  const auto source = describe(a, transpose_a), weights = describe(b, transpose_b), destination = describe(c, false);
  dnnl::post_ops sum;
  if (accumulate) sum.append_sum(1.0f);
  dnnl::primitive_attr attributes;
  attributes.set_post_ops(sum);
#if DNNL_VERSION_MAJOR >= 3
  const dnnl::matmul::primitive_desc description(engine, source, weights, destination, attributes);
#else
  const dnnl::matmul::primitive_desc description(dnnl::matmul::desc(source, weights, destination), attributes, engine);
#endif
  dnnl::matmul(description)
      .execute(stream, {{DNNL_ARG_SRC, dnnl::memory(source, engine, a.data)},
                        {DNNL_ARG_WEIGHTS, dnnl::memory(weights, engine, b.data)},
                        {DNNL_ARG_DST, dnnl::memory(destination, engine, c.data)}});
  stream.wait();
}

void round_row(std::uint16_t* to, Tensor from, std::int64_t row) {
  const float* values = from.row(row);
#pragma omp simd
  for (std::int64_t c = 0; c < from.cols; ++c) to[c] = to_bf16(values[c]);
}

// `from` rounded to bf16, in memory at `to`.
Tensor rounded(Tensor from, void* to, int threads) {
  const Tensor result = matrix(to, from.rows, from.cols, DType::bf16);
  parallel_for(from.rows, useful_threads(threads, from.rows, from.size()),
               [&](std::int64_t r) { round_row(static_cast<std::uint16_t*>(to) + r * from.cols, from, r); });
  return result;
}

std::size_t bf16_bytes(Tensor t) {
  return (static_cast<std::size_t>(t.size()) * 2 + 63) / 64 * 64;
}

}  // namespace

void CpuKernels::linear_forward(Tensor out, Tensor in, Tensor weight, Tensor bias) {
  require(in.cols == weight.cols && out.cols == weight.rows && out.rows == in.rows, "linear_forward: shapes");
  require(bias.empty() || bias.size() == out.cols, "linear_forward: bias");
  if (out.empty()) return;
  if (const float* packed = frozen(weight); packed != nullptr && out.rows <= kMostPackedRows)
    return packed_product(out, in, packed, bias, threads_);
  if (!bias.empty())
    parallel_for(out.rows, useful_threads(threads_, out.rows, out.size()),
                 [&](std::int64_t r) { std::copy_n(bias.f32(), out.cols, out.row(r)); });
  if (weight.dtype == DType::bf16)
    bf16_matmul(false, true, out, rounded(in, scratch(bf16_bytes(in)), threads_), weight, !bias.empty());
  else
    sgemm(false, true, out, in, weight, bias.empty() ? 0.0f : 1.0f);
}

void CpuKernels::freeze(std::span<const Tensor> weights) {
  std::size_t total = 0;
  const auto packs = [](const Tensor& weight) { return weight.dtype == DType::f32 && !weight.empty(); };
  for (const Tensor& weight : weights)
    if (packs(weight)) total += packed_bytes(weight);
  const auto memory = std::make_shared<Buffer>(host_buffer(total));
  float* packed = memory->f32();
  for (const Tensor& weight : weights) {
    if (!packs(weight)) continue;
    pack_weight(packed, weight);
    frozen_[weight.data] = {weight, packed, memory};
    packed += packed_bytes(weight) / sizeof(float);
  }
}

void CpuKernels::thaw(std::span<const Tensor> weights) {
  for (const Tensor& weight : weights) frozen_.erase(weight.data);
}

// The packed copy of just this weight, or null: a block of rows of it starts at the same address.
const float* CpuKernels::frozen(Tensor weight) const {
  const auto found = frozen_.find(weight.data);
  if (found == frozen_.end()) return nullptr;
  const Tensor& whole = found->second.weight;
  return whole.rows == weight.rows && whole.cols == weight.cols ? found->second.packed : nullptr;
}

void CpuKernels::linear_backward_input(Tensor din, Tensor dout, Tensor weight, bool accumulate) {
  require(din.cols == weight.cols && dout.cols == weight.rows && din.rows == dout.rows,
          "linear_backward_input: shapes");
  if (din.empty()) return;
  if (weight.dtype == DType::bf16)
    bf16_matmul(false, false, din, rounded(dout, scratch(bf16_bytes(dout)), threads_), weight, accumulate);
  else
    sgemm(false, false, din, dout, weight, accumulate ? 1.0f : 0.0f);
}

void CpuKernels::linear_backward_weight(Tensor dweight, Tensor dbias, Tensor dout, Tensor in) {
  require(dweight.rows == dout.cols && dweight.cols == in.cols && in.rows == dout.rows,
          "linear_backward_weight: shapes");
  require(dbias.empty() || dbias.size() == dout.cols, "linear_backward_weight: bias");
  if (!dbias.empty()) {
    const RowPass pass(dout.rows, dout.cols, 1, threads_);
    pass.run(scratch(pass.scratch_bytes()), std::array{dbias}, [&](std::int64_t begin, std::int64_t end, auto vector) {
      float* sum = vector(0);
      for (std::int64_t r = begin; r < end; ++r) {
        const float* row = dout.row(r);
        for (std::int64_t c = 0; c < dout.cols; ++c) sum[c] += row[c];
      }
    });
  }
  if (in.rows == 0) {
    for (std::int64_t r = 0; r < dweight.rows; ++r) std::fill_n(dweight.row(r), dweight.cols, 0.0f);
  } else if (precision_ == Precision::bf16) {
    auto* memory = static_cast<std::byte*>(scratch(bf16_bytes(dout) + bf16_bytes(in)));
    bf16_matmul(true, false, dweight, rounded(dout, memory, threads_), rounded(in, memory + bf16_bytes(dout), threads_),
                false);
  } else {
    sgemm(true, false, dweight, dout, in, 0.0f);
  }
}

void CpuKernels::round_weights(Tensor working, Tensor weight) {
  require(working.rows == weight.rows && working.cols == weight.cols, "round_weights: shapes");
  require(working.dtype == DType::bf16, "round_weights: only bf16 has a working copy on the CPU");
  for (std::int64_t r = 0; r < weight.rows; ++r)
    round_row(static_cast<std::uint16_t*>(working.data) + r * working.stride, weight, r);
}

}  // namespace ember
