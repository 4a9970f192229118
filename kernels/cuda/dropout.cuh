// Dropout masks on the device, recomputed wherever they are needed: the Philox4x32-10 of cuRAND's device generator,
// called with counters, so that its words are those of random_block (runtime/philox.h) and the mask is the CPU's.
#pragma once

#include <curand_philox4x32_x.h>

#include <cstdint>

#include "runtime/cuda/simt.h"
#include "runtime/philox.h"

namespace ember {

// A Dropout as kernels take it; inactive, it drops nothing (threshold 0) and scales by 1.
struct DropoutMask {
  explicit DropoutMask(const Dropout& dropout)
      : key{static_cast<unsigned>(dropout.seed), static_cast<unsigned>(dropout.seed >> 32)},
        site(dropout.site),
        step(dropout.step),
        counter(dropout.counter),
        threshold(dropout.active() ? dropout.threshold() : 0),
        scale(dropout.active() ? dropout.scale() : 1) {}

  uint2 key;
  unsigned site, step;
  const std::int32_t* counter;
  unsigned threshold;
  float scale;

  __device__ bool active() const { return threshold != 0; }
  // The words of elements [4 block, 4 block + 4).
  __device__ uint4 words(std::uint64_t block) const {
    const auto low = static_cast<unsigned>(block), high = static_cast<unsigned>(block >> 32);
    const unsigned now = step + (counter == nullptr ? 0 : static_cast<unsigned>(*counter));
    return curand_Philox4x32_10(make_uint4(low, high, now, site), key);
  }
  __device__ float multiplier(unsigned word) const { return word >= threshold ? scale : 0.0f; }
};

// x[i] *= the multiplier of an element, by the words of these four, of an active mask.
__device__ __forceinline__ void apply_words(float (&x)[4], const DropoutMask& mask, const uint4& words) {
  x[0] *= mask.multiplier(words.x);
  x[1] *= mask.multiplier(words.y);
  x[2] *= mask.multiplier(words.z);
  x[3] *= mask.multiplier(words.w);
}

// x[i] *= the multiplier of element first + i. V = 1, or V = 4 and `first` a multiple of 4: one block of words.
template <int V>
__device__ void apply_dropout(float (&x)[V], const DropoutMask& mask, std::int64_t first) {
  static_assert(V == 1 || V == 4);
  if (!mask.active()) return;
  const uint4 words = mask.words(static_cast<std::uint64_t>(first) / 4);
  if constexpr (V == 4) {
    apply_words(x, mask, words);
  } else {
    const auto place = static_cast<unsigned>(first % 4);
    const unsigned low = place == 0 ? words.x : words.y, high = place == 2 ? words.z : words.w;
    x[0] *= mask.multiplier(place < 2 ? low : high);
  }
}

}  // namespace ember
