// Sizes in whole steps, on the host. For sizes of 0 or more; sums must not overflow. (Not for kernels: called in one of
// those, attention's backward pass needs registers that it has not.)
#pragma once

#include <type_traits>

namespace ember {

// size / step, rounded up.
template <typename Integer>
constexpr Integer ceil_div(Integer size, std::type_identity_t<Integer> step) {
  return (size + step - 1) / step;
}

// `size` rounded up to a multiple of `step`.
template <typename Integer>
constexpr Integer round_up(Integer size, std::type_identity_t<Integer> step) {
  return ceil_div(size, step) * step;
}

}  // namespace ember
