// Three operations of Kernels as ladders: from the implementation that one writes first to the one that Ember ships,
// each rung a complete and correct one with one more idea than the rung below. The top rungs call the shipped kernels;
// the others are in cpu/ and cuda/, a small file each. bench_variants times them, tests/variants holds all of them to
// the same oracles, README.md says what each idea bought.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace ember::variants {

// The operands of Kernels::residual_layernorm_forward.
struct LayerNormCall {
  Tensor out, sum;
  Moments moments;
  Tensor in, bias, residual;
  LayerNormTensors norm;
  float epsilon;
  Dropout dropout;
};

// The operands of Kernels::attention_forward with Queries::all.
struct AttentionCall {
  Tensor out, query, key, value;
  const Batch& batch;
  std::int64_t heads, positions;
  Dropout dropout;
};

// The weights of a model at one step of training, state->updates of them behind it. Of the table only rows ids[u] have
// a gradient, table.gradient (U, C). The lazy rung alone keeps row_updates, and wants no row of the table to be read
// before it has settled.
struct AdamWCall {
  std::span<const AdamWParameter> dense;
  AdamWParameter table;
  const std::int32_t* ids;
  std::int32_t* row_updates;
  const AdamWUpdate* schedule;
  const StepState* state;
  float max_norm;
};

template <typename Call>
struct Rung {
  std::string name;
  std::function<void(const Call&)> run;
  std::function<void(const Call&)> settle = {};  // AdamW: brings the whole table up to date; empty where it always is
};

// The ladders of one backend, naive first.
struct Ladders {
  std::vector<Rung<LayerNormCall>> layernorm;
  std::vector<Rung<AttentionCall>> attention;
  std::vector<Rung<AdamWCall>> adamw;
  // Waits until the rungs, and all that was uploaded, are done. A rung may run on a stream of its own.
  std::function<void()> synchronize;
};

// `one` and `all` are CpuKernels of one thread and of `threads`; both must outlive the ladders.
Ladders cpu_ladders(Kernels& one, Kernels& all, int threads);
// `kernels` is a CudaKernels and must outlive the ladders.
Ladders cuda_ladders(Kernels& kernels);

}  // namespace ember::variants
