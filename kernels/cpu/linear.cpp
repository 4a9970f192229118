// Linear layers: out = in weightᵀ + bias and its two backward products. By the products of linear_products.h, with a
// weight frozen in int8 by that of int8_product.h.
#include <array>

#include "kernels/cpu/cpu_kernels.h"
#include "kernels/cpu/int8_product.h"
#include "kernels/cpu/linear_products.h"
#include "kernels/cpu/row_pass.h"
#include "kernels/require.h"
#include "runtime/ceil_div.h"

namespace ember {
namespace {

const LinearProducts& products_of(DType weight) {
  return weight == DType::bf16 ? bf16_products() : fp32_products();
}

}  // namespace

void CpuKernels::linear_forward(Tensor out, Tensor in, Tensor weight, Tensor bias) {
  require(has_shape(out, in.rows, weight.rows) && has_shape(in, out.rows, weight.cols), "linear_forward: shapes");
  require(bias.empty() || has_shape(bias, 1, out.cols), "linear_forward: bias");
  if (out.empty()) return;
  if (const void* packed = frozen(weight); packed != nullptr) {
    if (precision_ == Precision::int8) return int8_product(out, in, packed, bias, scratch_, threads_);
    return products_of(weight.dtype).packed_forward(out, in, packed, bias, scratch_, threads_);
  }
  products_of(weight.dtype).forward(out, in, weight, bias, scratch_, threads_);
}

// Of the packed form of a weight in `precision`, up to the next one's alignment; 0: it has none.
std::size_t CpuKernels::frozen_bytes(Tensor weight) const {
  if (weight.empty() || weight.dtype != product_type()) return 0;
  if (precision_ == Precision::int8 && weight.cols > kMostInt8Inputs) return 0;
  const std::size_t bytes =
      precision_ == Precision::int8 ? int8_bytes(weight) : products_of(weight.dtype).packed_bytes(weight);
  return round_up(bytes, Arena::kAlignment);
}

void CpuKernels::freeze(std::span<const Tensor> weights) {
  std::size_t total = 0;
  for (const Tensor& weight : weights) total += frozen_bytes(weight);
  const auto memory = std::make_shared<Buffer>(host_buffer(total));
  auto* packed = static_cast<std::byte*>(memory->data());
  for (const Tensor& weight : weights) {
    const std::size_t bytes = frozen_bytes(weight);
    if (bytes == 0) continue;
    if (precision_ == Precision::int8)
      int8_pack(packed, weight);
    else
      products_of(weight.dtype).pack(packed, weight);
    frozen_[weight.data] = {weight, packed, memory};
    packed += bytes;
  }
}

void CpuKernels::thaw(std::span<const Tensor> weights) {
  for (const Tensor& weight : weights) frozen_.erase(weight.data);
}

// The packed copy of just this weight, or null: a block of rows of it starts at the same address.
const void* CpuKernels::frozen(Tensor weight) const {
  const auto found = frozen_.find(weight.data);
  if (found == frozen_.end()) return nullptr;
  const Tensor& whole = found->second.weight;
  return whole.rows == weight.rows && whole.cols == weight.cols ? found->second.packed : nullptr;
}

void CpuKernels::linear_backward_input(Tensor din, Tensor dout, Tensor weight) {
  require(has_shape(din, dout.rows, weight.cols) && has_shape(dout, din.rows, weight.rows),
          "linear_backward_input: shapes");
  if (din.empty()) return;
  products_of(weight.dtype).backward_input(din, dout, weight, scratch_, threads_);
}

void CpuKernels::linear_backward_weight(Tensor dweight, Tensor dbias, Tensor dout, Tensor in) {
  require(has_shape(dweight, dout.cols, in.cols) && has_shape(in, dout.rows, dweight.cols) &&
              has_shape(dout, in.rows, dweight.rows),
          "linear_backward_weight: shapes");
  require(dbias.empty() || has_shape(dbias, 1, dout.cols), "linear_backward_weight: bias");
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
  if (dweight.empty()) return;
  products_of(product_type()).backward_weight(dweight, dout, in, scratch_, threads_);
}

}  // namespace ember
