// The rungs that are the shipped kernels, on any backend.
#pragma once

#include <utility>

#include "bench/variants/ladder.h"

namespace ember::variants {

inline Rung<LayerNormCall> shipped_layernorm(std::string name, Kernels& kernels) {
  return {std::move(name), [&kernels](const LayerNormCall& a) {
            kernels.residual_layernorm_forward(a.out, a.sum, a.moments, a.in, a.bias, a.residual, a.norm, a.epsilon,
                                               a.dropout);
          }};
}

inline Rung<AttentionCall> shipped_attention(std::string name, Kernels& kernels) {
  return {std::move(name), [&kernels](const AttentionCall& a) {
            kernels.attention_forward(a.out, a.query, a.key, a.value, a.batch, a.heads, a.positions, Queries::all,
                                      a.dropout);
          }};
}

// All weights, the table among them, with `gradient` (V, C) as the table's.
inline std::vector<AdamWParameter> with_dense_table(const AdamWCall& a, Tensor gradient) {
  std::vector<AdamWParameter> all(a.dense.begin(), a.dense.end());
  all.push_back(a.table);
  all.back().gradient = gradient;
  return all;
}

// Rows that a batch does not touch are left as they are until they are read: neither they nor a gradient of zeros for
// them pass through memory. Rows that it does touch first catch up with what they missed.
inline Rung<AdamWCall> lazy_adamw(std::string name, Kernels& kernels) {
  const auto run = [&kernels](const AdamWCall& a) {
    kernels.adamw_replay(a.table, a.ids, a.table.gradient.rows, a.row_updates, a.schedule, a.state);
    kernels.adamw_rows(a.table, a.ids, a.row_updates, a.schedule, a.state, a.max_norm);
    kernels.adamw(a.dense, a.schedule, a.state, a.max_norm);
  };
  const auto settle = [&kernels](const AdamWCall& a) {
    kernels.adamw_replay(a.table, nullptr, 0, a.row_updates, a.schedule, a.state);
  };
  return {std::move(name), run, settle};
}

}  // namespace ember::variants
