// Oracle of Kernels::attention_*: naive loops, templated on the scalar, and on a rounding of what a backend may round
// before a product: the probabilities times the dropout's multipliers, and the gradients of the scores.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "kernels/kernels.h"
#include "tests/reference/dropout.h"

namespace ember::reference {

// Tensors are row-major vectors, shaped as the contract says.
template <typename T, typename Round = std::identity>
class Attention {
 public:
  struct Gradients {
    std::vector<T> query, key, value;
  };

  Attention(std::vector<std::int64_t> lengths, std::int64_t heads, std::int64_t dim, std::int64_t positions,
            Queries queries, Dropout dropout)
      : lengths_(std::move(lengths)),
        heads_(heads),
        dim_(dim),
        positions_(positions),
        queries_(queries),
        dropout_(dropout) {}

  std::vector<T> forward(const std::vector<T>& query, const std::vector<T>& key, const std::vector<T>& value) const {
    std::vector<T> out(query.size());
    for_each_row([&](const Row& row) {
      const std::vector<T> p = probabilities(row, query, key);
      for (std::int64_t j = 0; j < row.length; ++j) {
        const T weight = Round{}(p[j] * multiplier(row, j));
        for (std::int64_t d = 0; d < dim_; ++d)
          out[at(row.query, row.head, d)] += weight * value[at(row.first + j, row.head, d)];
      }
    });
    return out;
  }

  Gradients backward(const std::vector<T>& dout, const std::vector<T>& query, const std::vector<T>& key,
                     const std::vector<T>& value) const {
    Gradients g{std::vector<T>(query.size()), std::vector<T>(key.size()), std::vector<T>(value.size())};
    for_each_row([&](const Row& row) {
      const std::vector<T> p = probabilities(row, query, key);
      std::vector<T> dp(p.size());
      T mean = 0;
      for (std::int64_t j = 0; j < row.length; ++j) {
        const T kept = multiplier(row, j), weight = Round{}(p[j] * kept);
        for (std::int64_t d = 0; d < dim_; ++d) {
          const T from_out = dout[at(row.query, row.head, d)];
          g.value[at(row.first + j, row.head, d)] += weight * from_out;
          dp[j] += kept * from_out * value[at(row.first + j, row.head, d)];
        }
        mean += p[j] * dp[j];
      }
      for (std::int64_t j = 0; j < row.length; ++j) {
        const T ds = Round{}(p[j] * (dp[j] - mean)) / std::sqrt(static_cast<T>(dim_));
        for (std::int64_t d = 0; d < dim_; ++d) {
          g.query[at(row.query, row.head, d)] += ds * key[at(row.first + j, row.head, d)];
          g.key[at(row.first + j, row.head, d)] += ds * query[at(row.query, row.head, d)];
        }
      }
    });
    return g;
  }

 private:
  // One query of one head.
  struct Row {
    std::int64_t token, query, head;  // its row among the tokens, and in the query tensor
    std::int64_t first, length;       // of its sequence
  };

  template <typename Visit>
  void for_each_row(Visit visit) const {
    std::int64_t first = 0;
    for (std::size_t b = 0; b < lengths_.size(); first += lengths_[b++])
      for (std::int64_t i = 0; i < (queries_ == Queries::all ? lengths_[b] : 1); ++i)
        for (std::int64_t h = 0; h < heads_; ++h)
          visit(Row{first + i, queries_ == Queries::all ? first + i : static_cast<std::int64_t>(b), h, first,
                    lengths_[b]});
  }

  std::size_t at(std::int64_t row, std::int64_t head, std::int64_t d) const {
    return static_cast<std::size_t>((row * heads_ + head) * dim_ + d);
  }

  std::vector<T> probabilities(const Row& row, const std::vector<T>& query, const std::vector<T>& key) const {
    std::vector<T> p(static_cast<std::size_t>(row.length));
    T largest = 0, sum = 0;
    for (std::int64_t j = 0; j < row.length; ++j) {
      for (std::int64_t d = 0; d < dim_; ++d)
        p[j] += query[at(row.query, row.head, d)] * key[at(row.first + j, row.head, d)];
      p[j] /= std::sqrt(static_cast<T>(dim_));
      largest = j == 0 ? p[j] : std::max(largest, p[j]);
    }
    for (T& value : p) sum += value = std::exp(value - largest);
    for (T& value : p) value /= sum;
    return p;
  }

  T multiplier(const Row& row, std::int64_t j) const {
    const std::int64_t row_elements = 4 * ((positions_ + 3) / 4);
    return dropout_multiplier<T>(dropout_, (row.token * heads_ + row.head) * row_elements + j);
  }

  std::vector<std::int64_t> lengths_;
  std::int64_t heads_, dim_, positions_;
  Queries queries_;
  Dropout dropout_;
};

}  // namespace ember::reference
