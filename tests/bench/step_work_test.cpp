// What a step has to do, against the arithmetic of the model by hand.
#include "bench/step_work.h"

#include <gtest/gtest.h>

#include <map>

#include "bench/shapes.h"

namespace ember {
namespace {

constexpr BatchSize kBatch{16, 308, 38, 172, 6500};

struct Sum {
  int calls = 0;
  double bytes = 0, flop = 0;
};

std::map<std::string, Sum> by_method(const std::vector<OperationWork>& calls) {
  std::map<std::string, Sum> sums;
  for (const OperationWork& call : calls) {
    Sum& sum = sums[call.method];
    ++sum.calls, sum.bytes += call.work.bytes, sum.flop += call.work.flop;
  }
  return sums;
}

TEST(StepWork, IsThatOfTheModel) {
  const BertConfig config = model_shape("tinybert");
  auto sums = by_method(step_work(config, kBatch, {DType::f16, DType::f16}));
  const double n = 308, b = 16, c = 312, f = 1200, k = 28;
  // Three whole layers, the last for [CLS] alone, the pooler; what is joined with GELU, attention or tanh counts there.
  const double gelu = 3 * n * c * f + b * c * f;
  EXPECT_EQ(sums["linear_forward"].calls, 3 * 3 + 2 + 1);
  EXPECT_DOUBLE_EQ(sums["linear_forward"].flop,
                   2 * (3 * n * (4 * c * c + c * f) + b * (c * c + c * f) + b * c * c) + 3 * n * 3 * c);
  EXPECT_EQ(sums["linear_gelu_forward"].calls, 4);
  EXPECT_DOUBLE_EQ(sums["linear_gelu_forward"].flop, 2 * gelu + (3 * n + b) * f * 6);
  EXPECT_EQ(sums["linear_backward_input"].calls, 3 * 3 + 2 + 1);
  EXPECT_DOUBLE_EQ(sums["linear_backward_input"].flop,
                   2 * (3 * n * (4 * c * c + c * f) + b * (c * c + c * f) + b * c * c));
  EXPECT_EQ(sums["linear_gelu_backward"].calls, 4);
  EXPECT_DOUBLE_EQ(sums["linear_gelu_backward"].flop, 2 * gelu + (3 * n + b) * f * 13);
  EXPECT_EQ(sums["linear_backward_weight"].calls, 3 * 4 + 3 + 2);
  EXPECT_EQ(sums["attention_forward"].calls, 3);
  EXPECT_EQ(sums["attention_backward"].calls, 3);
  EXPECT_EQ(sums["residual_layernorm_backward"].calls, 8);
  for (const char* once :
       {"gather_batch", "embeddings_forward", "embeddings_backward", "cls_attention_forward", "cls_attention_backward",
        "head_forward", "head_backward", "sigmoid_bce", "gradient_norm", "adamw", "adamw_rows", "finish_step"})
    EXPECT_EQ(sums[once].calls, 1) << once;

  // All weights but the word embedding: read, written, and the gradient and the f16 copy.
  const double parameters = (512 + 2) * c + 2 * c + 4 * (4 * c * c + 2 * c * f + 9 * c + f) + c * c + c + c * k + k;
  EXPECT_DOUBLE_EQ(sums["adamw"].bytes, parameters * (7 * 4 + 2));
  EXPECT_DOUBLE_EQ(sums["gradient_norm"].bytes, 0);
  EXPECT_DOUBLE_EQ(sums["gradient_norm"].flop, 2 * (parameters + 172 * c));
  // The batch's rows and that of the padding, not the whole table.
  EXPECT_DOUBLE_EQ(sums["adamw_replay"].bytes, work::adamw_replay(172 + 1, c, 0, 2).bytes);
}

TEST(StepWork, TheFloorIsTheSlowerOfBytesAndOperationsEach) {
  const std::vector<OperationWork> calls{{"a", {100, 1000}}, {"b", {300, 10}}};
  EXPECT_DOUBLE_EQ(floor_seconds(calls, {50, 100}), 1000.0 / 100 + 300.0 / 50);
}

}  // namespace
}  // namespace ember
