// Vectors of 32-bit elements, as wide as the registers of the level that a file is compiled for.
#pragma once

namespace ember {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

template <typename Element>
using Lanes [[gnu::vector_size(kLanes * 4)]] = Element;

}  // namespace ember
