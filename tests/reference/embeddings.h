// Oracle of Kernels::embeddings_* and gather_first*: naive loops, templated on the scalar. Matrices are row-major
// vectors; the gradient of the word embedding is dense.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "tests/reference/dropout.h"
#include "tests/reference/layernorm.h"

namespace ember::reference {

// Sequences laid end to end.
struct Sequences {
  std::vector<std::int64_t> lengths;
  std::vector<std::int32_t> tokens;

  // (row, place in its sequence) of every token.
  std::vector<std::pair<std::size_t, std::size_t>> places() const {
    std::vector<std::pair<std::size_t, std::size_t>> out;
    for (const std::int64_t length : lengths)
      for (std::int64_t place = 0; place < length; ++place) out.emplace_back(out.size(), place);
    return out;
  }
};

template <typename T>
struct Embeddings {
  std::vector<T> word, position, type;
  LayerNorm<T> norm;
  Dropout dropout;

  std::vector<T> sum(const Sequences& sequences) const {
    std::vector<T> out;
    for (const auto& [row, place] : sequences.places())
      for (std::size_t c = 0; c < norm.cols(); ++c)
        out.push_back(word[static_cast<std::size_t>(sequences.tokens[row]) * norm.cols() + c] +
                      position[place * norm.cols() + c] + type[c]);
    return out;
  }

  std::vector<T> forward(const Sequences& sequences) const {
    std::vector<T> out = norm.forward(sum(sequences));
    for (std::size_t i = 0; i < out.size(); ++i) out[i] *= dropout_multiplier<T>(dropout, static_cast<std::int64_t>(i));
    return out;
  }

  struct Gradients {
    std::vector<T> word, position, type, norm_weight, norm_bias, sum;
  };
  Gradients backward(std::vector<T> dout, const Sequences& sequences) const {
    for (std::size_t i = 0; i < dout.size(); ++i)
      dout[i] *= dropout_multiplier<T>(dropout, static_cast<std::int64_t>(i));
    const auto g = norm.backward(dout, sum(sequences));
    Gradients out{std::vector<T>(word.size()),
                  std::vector<T>(position.size()),
                  std::vector<T>(type.size()),
                  g.weight,
                  g.bias,
                  g.x};
    for (const auto& [row, place] : sequences.places())
      for (std::size_t c = 0; c < norm.cols(); ++c) {
        const T d = g.x[row * norm.cols() + c];
        out.word[static_cast<std::size_t>(sequences.tokens[row]) * norm.cols() + c] += d;
        out.position[place * norm.cols() + c] += d;
        out.type[c] += d;
      }
    return out;
  }
};

}  // namespace ember::reference
