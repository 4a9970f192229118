// Rows of device matrices and vectors of their elements. A kernel template has a width V: with V > 1 every load and
// store is one instruction of V elements, which needs bases and strides that are multiples of it (`vectorises`, decided
// on the host); with V = 1 any view goes. Arithmetic is in floats, whatever the storage.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <type_traits>

#include "runtime/ceil_div.h"
#include "runtime/cuda/simt.h"
#include "runtime/tensor.h"

namespace ember {

constexpr int kWarpSize = 32;

// The calling thread's place in its warp.
__device__ inline int lane_index() {
  return static_cast<int>(threadIdx.x) % kWarpSize;
}

// A matrix as kernels see it.
template <typename T>
struct Rows {
  T* data;
  std::int64_t stride;
  __device__ T* operator[](std::int64_t row) const { return data + row * stride; }
};

template <typename T>
Rows<T> rows_of(const Tensor& tensor) {
  return {static_cast<T*>(tensor.data), tensor.stride};
}

// Whether rows of all `tensors` can be read as vectors of `width` elements. Vectors wider than 16 bytes are read in
// parts of 16.
inline bool vectorises(int width, std::initializer_list<Tensor> tensors) {
  for (const Tensor& tensor : tensors) {
    const std::size_t bytes = static_cast<std::size_t>(width) * size_of(tensor.dtype);
    if (reinterpret_cast<std::uintptr_t>(tensor.data) % (bytes < 16 ? bytes : 16) != 0) return false;
    if (tensor.cols % width != 0 || (tensor.rows > 1 && tensor.stride % width != 0)) return false;
  }
  return true;
}

inline unsigned blocks_for(std::int64_t tasks, std::int64_t per_block) {
  return static_cast<unsigned>(ceil_div(tasks, per_block));
}

// The two halves of a word.
__device__ inline void unpack(float* x, std::uint32_t word) {
  const float2 pair = __half22float2(reinterpret_cast<const __half2&>(word));
  x[0] = pair.x;
  x[1] = pair.y;
}
__device__ inline std::uint32_t pack(const float* x) {
  const __half2 pair = __floats2half2_rn(x[0], x[1]);
  return reinterpret_cast<const std::uint32_t&>(pair);
}

// V halves on their way: asked for here, turned into floats later. What a loop asks for before it stores anything is on
// its way at once; after a store, which might go to the same place, a load waits.
template <int V>
struct Halves {
  static_assert(V == 1 || V == 4);
  using Words = std::conditional_t<V == 1, __half, uint2>;
  Words words;

  __device__ void ask(const __half* from) { words = *reinterpret_cast<const Words*>(from); }
  __device__ void get(float (&x)[V]) const {
    if constexpr (V == 1)
      x[0] = __half2float(words);
    else
      unpack(x, words.x), unpack(x + 2, words.y);
  }
};

template <int V>
__device__ void load(float (&x)[V], const __half* from) {
  static_assert(V == 1 || V == 4 || V == 8);
  if constexpr (V == 1) {
    x[0] = __half2float(*from);
  } else if constexpr (V == 4) {
    const uint2 words = *reinterpret_cast<const uint2*>(from);
    unpack(x, words.x), unpack(x + 2, words.y);
  } else {
    const uint4 words = *reinterpret_cast<const uint4*>(from);
    unpack(x, words.x), unpack(x + 2, words.y), unpack(x + 4, words.z), unpack(x + 6, words.w);
  }
}

template <int V>
__device__ void load(float (&x)[V], const float* from) {
  static_assert(V == 1 || V % 4 == 0);
  if constexpr (V == 1) {
    x[0] = *from;
  } else {
#pragma unroll
    for (int i = 0; i < V; i += 4) {
      const float4 part = *reinterpret_cast<const float4*>(from + i);
      x[i] = part.x, x[i + 1] = part.y, x[i + 2] = part.z, x[i + 3] = part.w;
    }
  }
}

// Rounded to the nearest even; beyond the largest half, infinity.
template <int V>
__device__ void store(__half* to, const float (&x)[V]) {
  static_assert(V == 1 || V == 4 || V == 8);
  if constexpr (V == 1) {
    *to = __float2half_rn(x[0]);
  } else if constexpr (V == 4) {
    *reinterpret_cast<uint2*>(to) = make_uint2(pack(x), pack(x + 2));
  } else {
    *reinterpret_cast<uint4*>(to) = make_uint4(pack(x), pack(x + 2), pack(x + 4), pack(x + 6));
  }
}

template <int V>
__device__ void store(float* to, const float (&x)[V]) {
  static_assert(V == 1 || V % 4 == 0);
  if constexpr (V == 1) {
    *to = x[0];
  } else {
#pragma unroll
    for (int i = 0; i < V; i += 4) *reinterpret_cast<float4*>(to + i) = make_float4(x[i], x[i + 1], x[i + 2], x[i + 3]);
  }
}

// Of what will not be needed again before more than the caches hold has passed: first to leave them.
template <int V>
__device__ void load_once(float (&x)[V], const float* from) {
  static_assert(V == 1 || V == 4);
  if constexpr (V == 1) {
    x[0] = __ldcs(from);
  } else {
    const float4 all = __ldcs(reinterpret_cast<const float4*>(from));
    x[0] = all.x, x[1] = all.y, x[2] = all.z, x[3] = all.w;
  }
}
template <int V>
__device__ void store_once(float* to, const float (&x)[V]) {
  static_assert(V == 1 || V == 4);
  if constexpr (V == 1)
    __stcs(to, x[0]);
  else
    __stcs(reinterpret_cast<float4*>(to), make_float4(x[0], x[1], x[2], x[3]));
}

// What a store of halves and a load leave of x.
template <int V>
__device__ void round_to_half(float (&x)[V]) {
#pragma unroll
  for (float& value : x) value = __half2float(__float2half_rn(value));
}

}  // namespace ember
