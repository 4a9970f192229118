// Counter-based random numbers: Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as
// 1, 2, 3" (SC 2011). Four 32-bit words are a function of a 128-bit counter and a 64-bit key, with no state, so dropout
// masks are recomputed in backward instead of stored and are the same on every backend.
#pragma once

#include <array>
#include <cstdint>

namespace ember {

using PhiloxBlock = std::array<std::uint32_t, 4>;

inline PhiloxBlock philox(PhiloxBlock counter, std::uint64_t key) {
  auto k0 = static_cast<std::uint32_t>(key), k1 = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53u} * counter[0], b = std::uint64_t{0xCD9E8D57u} * counter[2];
    counter = {static_cast<std::uint32_t>(b >> 32) ^ counter[1] ^ k0, static_cast<std::uint32_t>(b),
               static_cast<std::uint32_t>(a >> 32) ^ counter[3] ^ k1, static_cast<std::uint32_t>(a)};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return counter;
}

// Where a stream of random numbers is drawn, so that no two uses share one. Dropout adds the number of the layer, of
// which a model has at most kMostLayers.
inline constexpr std::int64_t kMostLayers = 0x100;
enum class Site : std::uint32_t {
  embeddings = 0x100,
  attention_probabilities = 0x200,
  attention_output = 0x300,
  ffn_output = 0x400,
  pooler = 0x500,
  permutation = 0x600,
  initialisation = 0x700,
};

// The four words for elements [4 i, 4 i + 4) of stream (seed, site, step). Equal to cuRAND's curand4 after
// curand_init(seed, (site << 32) | step, 4 i).
inline PhiloxBlock random_block(std::uint64_t seed, std::uint32_t site, std::uint32_t step, std::uint64_t i) {
  return philox({static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(i >> 32), step, site}, seed);
}

// Dropout of one site in one step: element e survives when its word is at least probability x 2^32, and survivors are
// scaled by 1 / (1 - probability). Probability 0 is the identity.
struct Dropout {
  float probability = 0;
  std::uint64_t seed = 0;
  std::uint32_t site = 0;
  std::uint32_t step = 0;
  // Where the number of the step lies in memory of the device; it is added to `step`. So work that was recorded once
  // draws other masks at every step.
  const std::int32_t* counter = nullptr;

  bool active() const { return probability > 0; }
  float scale() const { return 1.0f / (1.0f - probability); }
  // The word below which an element is dropped.
  std::uint32_t threshold() const {
    return static_cast<std::uint32_t>(static_cast<double>(probability) * 4294967296.0);
  }
};

}  // namespace ember
