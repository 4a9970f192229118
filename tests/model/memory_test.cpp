// Where there is no more memory, a model and its batches stay as they were; and of a model that is gone nothing stays.
#include <memory>

#include "kernels/cpu/cpu_kernels.h"
#include "model/batches.h"
#include "model/bert.h"
#include "tests/data/small_dataset.h"
#include "tests/support.h"

namespace ember {
namespace {

using testing::error_of;
using testing::small_dataset;

// CPU kernels of a device that has memory of its own, and not always some.
struct ScarceKernels final : CpuKernels {
  ScarceKernels() : CpuKernels(Precision::fp32, 1) {}
  bool on_host() const override { return false; }
  Buffer allocate(std::size_t bytes) override {
    check(allocations_left-- > 0, "out of memory");
    return CpuKernels::allocate(bytes);
  }
  int allocations_left = 1000;
};

BertConfig scarce_config() {
  BertConfig config;
  config.vocabulary = 103, config.hidden = 12, config.layers = 2, config.heads = 3, config.ffn = 16;
  config.positions = 8, config.labels = {"a", "b", "c"};
  return config;
}

using Ids = std::vector<std::int32_t>;
using Order = std::vector<std::int64_t>;

Ids tokens(const Batch& batch) {
  return {batch.token_ids, batch.token_ids + batch.tokens};
}

TEST(WantOfMemory, LeavesBatchesAsTheyWere) {
  const Dataset dataset = small_dataset();
  Dataset other;
  other.append(Ids{101, 8, 102}, Ids{});
  const BertConfig config = scarce_config();
  for (const bool ordered : {false, true}) {
    ScarceKernels kernels;
    Batches batches(kernels, config, dataset);
    if (ordered) batches.reorder(Order{1, 2, 0});
    batches.next(1);
    kernels.allocations_left = 0;
    EXPECT_EQ(error_of([&] { batches.next(2); }), "out of memory");
    EXPECT_EQ(error_of([&] { batches.reorder(Order{2, 2, 2, 2}); }), "out of memory");
    EXPECT_EQ(error_of([&] { batches.take(other); }), "out of memory");
    kernels.allocations_left = 1000;
    EXPECT_EQ(batches.left(), 2);
    EXPECT_EQ(tokens(batches.next(2)), ordered ? (Ids{101, 0, 3, 102, 101, 7, 0, 7, 102})  //
                                               : (Ids{101, 102, 101, 0, 3, 102}));
  }
}

// The loss and all gradients.
std::vector<float> learned(Bert& bert, const BertConfig& config, const Batch& batch) {
  bert.forward(batch, Randomness{1, 2});
  std::vector<float> values{*bert.loss(batch).loss.f32()};
  bert.backward(batch);
  for (const Parameter& gradient : parameters(config, bert.gradients())) {
    const bool words = gradient.value.data == bert.gradients().embeddings.word.data;
    const std::int64_t size = words ? batch.unique * config.hidden : gradient.value.size();
    values.insert(values.end(), gradient.value.f32(), gradient.value.f32() + size);
  }
  return values;
}

TEST(WantOfMemory, LeavesAModelAsItWas) {
  const Dataset dataset = small_dataset();
  const BertConfig config = scarce_config();
  ScarceKernels kernels;
  BertWeights weights(config, kernels);
  draw_all(weights, 0.3f, 3, kernels);
  Batches few(kernels, config, dataset), all(kernels, config, dataset);
  const Batch small = few.next(1), large = all.next(3);
  Bert roomy(config, weights, kernels, Purpose::training, {large.tokens, large.sequences});
  const std::vector<float> expected = learned(roomy, config, large);
  for (const int left : {0, 1}) {  // for none of activations and gradients, and for the first of them
    Bert bert(config, weights, kernels, Purpose::training, {small.tokens, small.sequences});
    const std::vector<float> before = learned(bert, config, small);
    kernels.allocations_left = left;
    EXPECT_EQ(error_of([&] { bert.forward(large); }), "out of memory");
    EXPECT_EQ(bert.reservations(), 1);
    EXPECT_EQ(learned(bert, config, small), before);
    kernels.allocations_left = 1000;
    EXPECT_EQ(learned(bert, config, large), expected);
  }
}

// What it has frozen lies where the next model's weights may.
TEST(Bert, LeavesNothingFrozenBehind) {
  const Dataset dataset = small_dataset();
  const BertConfig config = scarce_config();
  const BatchLimits limits{16, 3};
  for (const Precision precision : {Precision::fp32, Precision::int8}) {
    const std::unique_ptr<Kernels> kernels = make_cpu_kernels(precision, 1), others = make_cpu_kernels(precision, 1);
    BertWeights weights(config, *kernels);
    Batches batches(*kernels, config, dataset);
    const Batch batch = batches.next(3);
    draw_all(weights, 0.3f, 3, *kernels);
    Bert(config, weights, *kernels, Purpose::inference, limits).forward(batch);
    draw_all(weights, 0.3f, 4, *kernels);
    Bert next(config, weights, *kernels, Purpose::training, limits),
        alone(config, weights, *others, Purpose::training, limits);
    EXPECT_EQ(learned(next, config, batch), learned(alone, config, batch));
  }
}

}  // namespace
}  // namespace ember
