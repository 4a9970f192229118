// CUDA's warp collectives.
#pragma once

#include <cuda_fp16.h>

#include <cstring>
#include <type_traits>

#include "simt/block.h"

inline void __syncwarp(unsigned mask = ~0u, simt::Place place = simt::Place::current()) {
  simt::warp_barrier(mask, place);
}

namespace simt {

template <typename T>
T shuffle_value(const char* operation, unsigned mask, T value, int source, Place place) {
  static_assert(std::is_arithmetic_v<T> || std::is_same_v<T, __half> || std::is_same_v<T, __half2>,
                "CUDA has no shuffle of this type");
  constexpr int kWords = (sizeof(T) + 3) / 4;
  static_assert(kWords <= kMostWords);
  std::uint32_t in[kWords]{}, out[kWords];
  std::memcpy(in, &value, sizeof(T));
  shuffle(operation, mask, in, out, kWords, source, place);
  std::memcpy(&value, out, sizeof(T));
  return value;
}

}  // namespace simt

// `width` (a power of two) cuts the warp into segments; a source beyond the segment gives the lane's own value.
template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, simt::Place place = simt::Place::current()) {
  const int segment = simt::lane() & ~(width - 1);
  return simt::shuffle_value("__shfl_sync", mask, value, segment + (source & (width - 1)), place);
}

template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, simt::Place place = simt::Place::current()) {
  const int lane = simt::lane(), source = lane ^ bits;
  const bool beyond = source >= (lane & ~(width - 1)) + width;
  return simt::shuffle_value("__shfl_xor_sync", mask, value, beyond ? lane : source, place);
}

template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32, simt::Place place = simt::Place::current()) {
  const int lane = simt::lane(), source = lane - static_cast<int>(by);
  const bool beyond = source < (lane & ~(width - 1));
  return simt::shuffle_value("__shfl_up_sync", mask, value, beyond ? lane : source, place);
}

template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32, simt::Place place = simt::Place::current()) {
  const int lane = simt::lane(), source = lane + static_cast<int>(by);
  const bool beyond = source >= (lane & ~(width - 1)) + width;
  return simt::shuffle_value("__shfl_down_sync", mask, value, beyond ? lane : source, place);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, simt::Place place = simt::Place::current()) {
  return simt::ballot("__ballot_sync", mask, predicate != 0, place);
}
inline int __any_sync(unsigned mask, int predicate, simt::Place place = simt::Place::current()) {
  return simt::ballot("__any_sync", mask, predicate != 0, place) != 0;
}
inline int __all_sync(unsigned mask, int predicate, simt::Place place = simt::Place::current()) {
  return simt::ballot("__all_sync", mask, predicate == 0, place) == 0;
}
