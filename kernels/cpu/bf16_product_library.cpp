// Products of weights in bf16 by oneDNN, which knows at run time what the compiler was not told of.
#include "kernels/cpu/linear_products.h"

#if !defined(__AVX512BF16__)
#include <oneapi/dnnl/dnnl.hpp>
#include <stdexcept>

#include "kernels/cpu/bf16.h"
#include "kernels/cpu/library_product.h"
#include "kernels/cpu/team.h"
#include "runtime/ceil_div.h"

namespace ember {
namespace {

dnnl::memory::desc describe(Tensor t, bool transpose) {
  const auto type = t.dtype == DType::bf16 ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32;
  if (transpose) return {{t.cols, t.rows}, type, dnnl::memory::dims{1, t.stride}};
  return {{t.rows, t.cols}, type, dnnl::memory::dims{t.stride, 1}};
}

// c = op(a) op(b), or c += op(a) op(b), row-major, op(x) = xᵀ where the flag says so; a and b in bf16, c in fp32.
// oneDNN keeps the primitive of a shape in its own cache.
void matmul(bool transpose_a, bool transpose_b, Tensor c, Tensor a, Tensor b, bool accumulate, int threads) {
  const LibraryThreads limit(threads);
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

// `from` rounded to bf16, in memory at `to`.
Tensor rounded(Tensor from, void* to, int threads) {
  const Tensor result = matrix(to, from.rows, from.cols, DType::bf16);
  parallel_for(from.rows, useful_threads(threads, from.rows, from.size()), [&](std::int64_t r) {
    round_row(static_cast<std::uint16_t*>(to) + r * from.cols, from.row(r), from.cols);
  });
  return result;
}

std::size_t bf16_bytes(Tensor t) {
  return round_up(static_cast<std::size_t>(t.size()) * 2, 64);
}

void bf16_forward(Tensor out, Tensor in, Tensor weight, Tensor bias, Scratch& scratch, int threads) {
  const bool adds = start_with_bias(out, bias, threads);
  matmul(false, true, out, rounded(in, scratch(bf16_bytes(in)), threads), weight, adds, threads);
}

void bf16_backward_input(Tensor din, Tensor dout, Tensor weight, Scratch& scratch, int threads) {
  matmul(false, false, din, rounded(dout, scratch(bf16_bytes(dout)), threads), weight, false, threads);
}

void bf16_backward_weight(Tensor dweight, Tensor dout, Tensor in, Scratch& scratch, int threads) {
  auto* memory = static_cast<std::byte*>(scratch(bf16_bytes(dout) + bf16_bytes(in)));
  matmul(true, false, dweight, rounded(dout, memory, threads), rounded(in, memory + bf16_bytes(dout), threads), false,
         threads);
}

std::size_t no_bytes(Tensor) {
  return 0;
}
void no_pack(void*, Tensor) {
  throw std::logic_error("bf16_products: there is no packed form here");
}
void no_packed_forward(Tensor, Tensor, const void*, Tensor, Scratch&, int) {
  throw std::logic_error("bf16_products: there is no packed form here");
}

}  // namespace

const LinearProducts& bf16_products() {
  static constexpr LinearProducts kProducts{bf16_forward, bf16_backward_input, bf16_backward_weight, no_bytes,
                                            no_pack,      no_packed_forward};
  return kProducts;
}

}  // namespace ember
#endif
