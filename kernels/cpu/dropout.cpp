#include "kernels/cpu/dropout.h"

#include <algorithm>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace ember {
namespace {

constexpr int kBlocks = 16;
constexpr int kWords = 4 * kBlocks;

std::uint32_t step_of(const Dropout& dropout) {
  return dropout.step + (dropout.counter == nullptr ? 0 : static_cast<std::uint32_t>(*dropout.counter));
}

// words[4 l + w] = random_block(seed, site, step, indices[l])[w].
#if defined(__AVX2__)
// Written in intrinsics because g++ does not find vpmuludq, the product of 32-bit numbers in 64-bit lanes, and
// multiplies whole lanes instead, three times slower. What a product leaves in the upper half of a lane is never read:
// it is shifted out or ignored by the next product.
[[gnu::always_inline]] inline void random_words(std::uint32_t* words, const std::uint64_t* indices,
                                                const Dropout& dropout) {
  constexpr int kWidth = 4, kVectors = kBlocks / kWidth;
  const __m256i factor0 = _mm256_set1_epi64x(0xD2511F53u), factor2 = _mm256_set1_epi64x(0xCD9E8D57u);
  __m256i c0[kVectors], c1[kVectors], c2[kVectors], c3[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    c0[v] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(indices + v * kWidth));
    c1[v] = _mm256_srli_epi64(c0[v], 32);
    c2[v] = _mm256_set1_epi64x(step_of(dropout));
    c3[v] = _mm256_set1_epi64x(dropout.site);
  }
  auto k0 = static_cast<std::uint32_t>(dropout.seed), k1 = static_cast<std::uint32_t>(dropout.seed >> 32);
#pragma GCC unroll 10
  for (int round = 0; round < 10; ++round) {
    const __m256i key0 = _mm256_set1_epi64x(k0), key1 = _mm256_set1_epi64x(k1);
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const __m256i a = _mm256_mul_epu32(c0[v], factor0), b = _mm256_mul_epu32(c2[v], factor2);
      c0[v] = _mm256_xor_si256(_mm256_srli_epi64(b, 32), _mm256_xor_si256(c1[v], key0));
      c2[v] = _mm256_xor_si256(_mm256_srli_epi64(a, 32), _mm256_xor_si256(c3[v], key1));
      c1[v] = b;
      c3[v] = a;
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  for (int v = 0; v < kVectors; ++v) {
    const __m256i front = _mm256_blend_epi32(c0[v], _mm256_slli_epi64(c1[v], 32), 0xAA);
    const __m256i back = _mm256_blend_epi32(c2[v], _mm256_slli_epi64(c3[v], 32), 0xAA);
    const __m256i even = _mm256_unpacklo_epi64(front, back), odd = _mm256_unpackhi_epi64(front, back);
    auto* out = reinterpret_cast<__m256i*>(words + v * 4 * kWidth);
    _mm256_storeu_si256(out, _mm256_permute2x128_si256(even, odd, 0x20));
    _mm256_storeu_si256(out + 1, _mm256_permute2x128_si256(even, odd, 0x31));
  }
}
#else
void random_words(std::uint32_t* words, const std::uint64_t* indices, const Dropout& dropout) {
  for (int l = 0; l < kBlocks; ++l) {
    const PhiloxBlock block = random_block(dropout.seed, dropout.site, step_of(dropout), indices[l]);
    std::copy(block.begin(), block.end(), words + 4 * l);
  }
}
#endif

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
  const std::int64_t row_blocks = (count + 3) / 4, total = rows * row_blocks;
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
