// Products of weights in bf16 by the processor's own instructions. Packing costs 2 to 4% of a product of 300 rows with
// AVX512-BF16.
#include <stdexcept>

#include "kernels/cpu/linear_products.h"
#include "kernels/cpu/pair_product.h"

namespace ember {

const LinearProducts& bf16_products() {
#if defined(__AVX512BF16__)
  using Product = PairProduct<1>;
  static constexpr LinearProducts kProducts{Product::forward,      Product::backward_input, Product::backward_weight,
                                            Product::packed_bytes, Product::pack,           Product::packed_forward};
  return kProducts;
#else
  throw std::logic_error("bf16 products without AVX512-BF16");
#endif
}

}  // namespace ember
