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
  // Three whole layers; the last with keys and values of all rows and the rest of [CLS]; pooler and classifier.
  const double products =
      2 * (3 * n * (4 * c * c + 2 * c * f) + n * 2 * c * c + b * (2 * c * c + 2 * c * f) + b * (c * c + c * k));
  const double biases = 3 * n * 3 * c + n * 2 * c + b * c + b * k;
  EXPECT_EQ(sums["linear_forward"].calls, 3 * 4 + 5 + 2);
  EXPECT_DOUBLE_EQ(sums["linear_forward"].flop, products + biases);
  EXPECT_EQ(sums["linear_backward_weight"].calls, 19);
  EXPECT_DOUBLE_EQ(sums["linear_backward_weight"].flop, products + biases);
  EXPECT_EQ(sums["linear_backward_input"].calls, 19);
  EXPECT_EQ(sums["attention_forward"].calls, 4);
  EXPECT_EQ(sums["residual_layernorm_backward"].calls, 8);
  for (const char* once : {"gather_batch", "embeddings_forward", "embeddings_backward", "sigmoid_bce", "gradient_norm",
                           "adamw", "adamw_rows", "finish_step"})
    EXPECT_EQ(sums[once].calls, 1) << once;

  // All weights but the word embedding: read, written, and the gradient and the f16 copy.
  const double parameters = (512 + 2) * c + 2 * c + 4 * (4 * c * c + 2 * c * f + 9 * c + f) + c * c + c + c * k + k;
  EXPECT_DOUBLE_EQ(sums["adamw"].bytes, parameters * (7 * 4 + 2));
  EXPECT_DOUBLE_EQ(sums["gradient_norm"].bytes, 4 * (parameters + 172 * c));
}

TEST(StepWork, TheFloorIsTheSlowerOfBytesAndOperationsEach) {
  const std::vector<OperationWork> calls{{"a", {100, 1000}}, {"b", {300, 10}}};
  EXPECT_DOUBLE_EQ(floor_seconds(calls, {50, 100}), 1000.0 / 100 + 300.0 / 50);
}

}  // namespace
}  // namespace ember
