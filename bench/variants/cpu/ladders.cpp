#include <memory>

#include "bench/variants/cpu/adamw_passes.h"
#include "bench/variants/cpu/attention_packed.h"
#include "bench/variants/cpu/attention_padded.h"
#include "bench/variants/cpu/layernorm_naive.h"
#include "bench/variants/cpu/layernorm_vectorised.h"
#include "bench/variants/shipped.h"

namespace ember::variants {
namespace {

// All weights in one call, the table's among them: one pass over memory for each.
Rung<AdamWCall> dense_adamw(std::string name, Kernels& kernels, int threads) {
  return {std::move(name), [&kernels, threads, table = std::make_shared<DenseGradient>()](const AdamWCall& a) {
            const auto parameters = with_dense_table(a, table->of(a, threads));
            kernels.adamw(parameters, a.schedule, a.state, a.max_norm);
          }};
}

}  // namespace

Ladders cpu_ladders(Kernels& one, Kernels& all, int threads) {
  Ladders ladders;
  ladders.layernorm = {{"1_naive", layernorm_naive},
                       {"2_vectors", layernorm_vectorised},
                       shipped_layernorm("3_one_pass", one),
                       shipped_layernorm("4_threads_shipped", all)};
  const auto probabilities = std::make_shared<std::vector<float>>();
  ladders.attention = {{"1_padded", [probabilities](const AttentionCall& a) { attention_padded(a, *probabilities); }},
                       {"2_packed", attention_packed},
                       shipped_attention("3_vectors", one),
                       shipped_attention("4_threads_shipped", all)};
  const auto table = std::make_shared<DenseGradient>();
  ladders.adamw = {{"1_passes", [table](const AdamWCall& a) { adamw_passes(a, *table); }},
                   dense_adamw("2_fused", one, 1),
                   dense_adamw("3_threads", all, threads),
                   lazy_adamw("4_lazy_shipped", all)};
  ladders.synchronize = [] {};
  return ladders;
}

}  // namespace ember::variants
