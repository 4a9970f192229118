// The products of bf16_product.h by the processor's own instructions for bf16. Packing costs 2 to 4% of a product of
// 300 rows with AVX512-BF16.
#include "kernels/cpu/bf16_product.h"

#if defined(__AVX512BF16__)
#include "kernels/cpu/pair_product.h"

namespace ember {
namespace {
using RoundedProduct = PairProduct<1>;
}

void bf16_forward(Tensor out, Tensor in, Tensor weight, Tensor bias, Scratch& scratch, int threads) {
  RoundedProduct::forward(out, in, weight, bias, scratch, threads);
}
void bf16_backward_input(Tensor din, Tensor dout, Tensor weight, Scratch& scratch, int threads) {
  RoundedProduct::backward_input(din, dout, weight, scratch, threads);
}
void bf16_backward_weight(Tensor dweight, Tensor dout, Tensor in, Scratch& scratch, int threads) {
  RoundedProduct::backward_weight(dweight, dout, in, scratch, threads);
}
std::size_t bf16_packed_bytes(Tensor weight) {
  return RoundedProduct::packed_bytes(weight);
}
void bf16_pack(void* packed, Tensor weight) {
  RoundedProduct::pack(packed, weight);
}
void bf16_packed_forward(Tensor out, Tensor in, const void* packed, Tensor bias, Scratch& scratch, int threads) {
  RoundedProduct::packed_forward(out, in, packed, bias, scratch, threads);
}

}  // namespace ember
#endif
