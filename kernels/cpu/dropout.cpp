#include "kernels/cpu/dropout.h"

#include <immintrin.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "runtime/ceil_div.h"

namespace ember {
namespace {

// A 64-bit lane for each of so many blocks. Of the upper halves only a product's are ever read: others are shifted out,
// masked or ignored by the next product.
#if defined(__AVX512F__)
constexpr int kWidth = 8;
#elif defined(__AVX2__)
constexpr int kWidth = 4;
#else
constexpr int kWidth = 2;
#endif
constexpr int kVectors = 4, kBlocks = kVectors * kWidth, kWords = 4 * kBlocks;
using Lanes64 [[gnu::vector_size(8 * kWidth)]] = std::uint64_t;

// Of the lower halves. In intrinsics because g++ does not find vpmuludq, the product of 32-bit numbers in 64-bit lanes,
// and multiplies whole lanes instead, three times slower. (The mask leaves nothing out: of the form without one g++ 12
// warns.)
Lanes64 multiply(Lanes64 a, Lanes64 b) {
#if defined(__AVX512F__)
  return (Lanes64)_mm512_maskz_mul_epu32(0xFF, (__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  return (Lanes64)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#else
  return (Lanes64)_mm_mul_epu32((__m128i)a, (__m128i)b);
#endif
}

constexpr auto kEachLane = std::make_index_sequence<kWidth>();

// a[kFirst], b[kFirst], a[kFirst + 1], ... as many as there are lanes.
template <int kFirst, std::size_t... I>
Lanes64 alternate(Lanes64 a, Lanes64 b, std::index_sequence<I...>) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, (kFirst + I / 2 + I % 2 * kWidth)...);
#else  // g++ has clang's from version 12 on
  return __builtin_shuffle(a, b, Lanes64{(kFirst + I / 2 + I % 2 * kWidth)...});
#endif
}

std::uint32_t step_of(const Dropout& dropout) {
  return dropout.step + (dropout.counter == nullptr ? 0 : static_cast<std::uint32_t>(*dropout.counter));
}

// words[4 l + w] = random_block(seed, site, step, indices[l])[w].
[[gnu::always_inline]] inline void random_words(std::uint32_t* words, const std::uint64_t* indices,
                                                const Dropout& dropout) {
  constexpr Lanes64 kNone{};
  const Lanes64 factor0 = kNone + 0xD2511F53u, factor2 = kNone + 0xCD9E8D57u;
  Lanes64 c0[kVectors], c1[kVectors], c2[kVectors], c3[kVectors];
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    std::memcpy(&c0[v], indices + v * kWidth, sizeof c0[v]);
    c1[v] = c0[v] >> 32;
    c2[v] = kNone + step_of(dropout);
    c3[v] = kNone + dropout.site;
  }
  auto k0 = static_cast<std::uint32_t>(dropout.seed), k1 = static_cast<std::uint32_t>(dropout.seed >> 32);
#pragma GCC unroll 10
  for (int round = 0; round < 10; ++round) {
    const Lanes64 key0 = kNone + k0, key1 = kNone + k1;
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const Lanes64 a = multiply(c0[v], factor0), b = multiply(c2[v], factor2);
      c0[v] = b >> 32 ^ (c1[v] ^ key0);
      c2[v] = a >> 32 ^ (c3[v] ^ key1);
      c1[v] = b;
      c3[v] = a;
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    const Lanes64 front = (c0[v] & 0xFFFFFFFF) | c1[v] << 32, back = (c2[v] & 0xFFFFFFFF) | c3[v] << 32;
    const Lanes64 blocks[] = {alternate<0>(front, back, kEachLane), alternate<kWidth / 2>(front, back, kEachLane)};
    std::memcpy(words + v * 4 * kWidth, blocks, sizeof blocks);
  }
}

// The multipliers of the kWords elements of the blocks `indices`.
[[gnu::always_inline]] inline void multipliers(float* out, const std::uint64_t* indices, const Dropout& dropout) {
  std::uint32_t words[kWords];
  random_words(words, indices, dropout);
  const float scale = dropout.scale();
  const std::uint32_t threshold = dropout.threshold();
#pragma omp simd
  for (int w = 0; w < kWords; ++w) out[w] = words[w] >= threshold ? scale : 0.0f;
}

}  // namespace

void dropout_multipliers(float* out, std::int64_t first, std::int64_t count, const Dropout& dropout) {
  std::int64_t begin = -(first % 4);  // of the next group of blocks, relative to `out`
  auto block = static_cast<std::uint64_t>(first / 4);
  for (; begin < count; begin += kWords, block += kBlocks) {
    std::uint64_t indices[kBlocks];
    for (int l = 0; l < kBlocks; ++l) indices[l] = block + static_cast<std::uint64_t>(l);
    const std::int64_t from = std::max<std::int64_t>(begin, 0), to = std::min(begin + kWords, count);
    if (to - from == kWords) {
      multipliers(out + begin, indices, dropout);
    } else {
      float group[kWords];
      multipliers(group, indices, dropout);
      std::copy(group + (from - begin), group + (to - begin), out + from);
    }
  }
}

void dropout_multiplier_rows(float* out, std::int64_t out_stride, std::int64_t rows, std::int64_t first,
                             std::int64_t step, std::int64_t count, const Dropout& dropout) {
  const std::int64_t row_blocks = ceil_div(count, 4), total = rows * row_blocks;
  std::int64_t row = 0, place = 0;  // of the next block
  for (std::int64_t done = 0; done < total; done += kBlocks) {
    std::uint64_t indices[kBlocks];
    float* targets[kBlocks];
    const int filled = static_cast<int>(std::min<std::int64_t>(kBlocks, total - done));
    for (int l = 0; l < kBlocks; ++l) {
      indices[l] = static_cast<std::uint64_t>((first + row * step) / 4 + place);
      targets[l] = out + row * out_stride + 4 * place;
      if (++place == row_blocks) place = 0, ++row;
    }
    float group[kWords];
    multipliers(group, indices, dropout);
    for (int l = 0; l < filled; ++l) std::memcpy(targets[l], group + 4 * l, 4 * sizeof(float));
  }
}

}  // namespace ember
