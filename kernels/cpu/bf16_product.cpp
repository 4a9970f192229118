// Products of weights in bf16 by the processor's own instructions. Packing costs 2 to 4% of a product of 300 rows with
// AVX512-BF16.
#include "kernels/cpu/linear_products.h"
#include "kernels/cpu/pair_product.h"

#if defined(__AVX512BF16__)
namespace ember {

const LinearProducts& bf16_products() {
  using Product = PairProduct<1>;
  static constexpr LinearProducts kProducts{Product::forward,      Product::backward_input, Product::backward_weight,
                                            Product::packed_bytes, Product::pack,           Product::packed_forward};
  return kProducts;
}

}  // namespace ember
#endif
