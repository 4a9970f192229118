// Each operation right behind a kernel that writes an operand of it which it must not read before it has awaited that
// one: under TSan a read that is too early is a race (tests/simt/grid_order.h). What may be read early, a product's
// weight or a batch's lengths, is written long before. On a GPU this shows nothing that the operations' own tests do
// not.
#include <cstdint>
#include <initializer_list>
#include <vector>

#include "model/batches.h"
#include "runtime/cuda/graph.h"
#include "runtime/cuda/launch.h"
#include "tests/cuda/cuda_support.h"

namespace ember {
namespace {

using namespace testing;

__global__ void write_again(std::uint16_t* data, std::int64_t rows, std::int64_t cols, std::int64_t stride) {
  for (std::int64_t i = threadIdx.x; i < rows * cols; i += blockDim.x) {
    volatile std::uint16_t& at = data[i / cols * stride + i % cols];
    at = static_cast<std::uint16_t>(at);
  }
}

// The tensor stays as it is, and is written last of all.
void write(const Tensor& tensor) {
  const auto halves = static_cast<std::int64_t>(size_of(tensor.dtype) / 2);
  launch("write_again", testing::device().stream(), 1, 256, 0, write_again, static_cast<std::uint16_t*>(tensor.data),
         tensor.rows, tensor.cols * halves, tensor.stride * halves);
}

// In a graph, where no debug build puts anything in between.
template <typename Work>
void run_recorded(const Work& work) {
  work();  // measures products
  const Stream& stream = testing::device().stream();
  Graph(stream, work).launch(stream);
  stream.synchronize();
}

// Calls `operation` behind a kernel for each of the operands.
template <typename Operation>
void behind_each(std::initializer_list<Tensor> operands, const Operation& operation) {
  for (const Tensor& operand : operands)
    run_recorded([&] {
      write(operand);
      operation();
    });
}

DeviceMatrix half_of(std::int64_t rows, std::int64_t cols, unsigned seed) {
  return {kHalf, rows, cols, draw_halves(rows * cols, seed, 0.5f)};
}
DeviceMatrix float_of(std::int64_t rows, std::int64_t cols, unsigned seed) {
  return {kFloat, rows, cols, draw(rows * cols, seed, 0.5f)};
}

constexpr std::int64_t kRows = 33, kInputs = 104, kOutputs = 72;

TEST(Overlap, Products) {
  const auto in = half_of(kRows, kInputs, 1), weight = half_of(kOutputs, kInputs, 2), out = half_of(kRows, kOutputs, 3),
             din = half_of(kRows, kInputs, 4), before = half_of(kRows, kOutputs, 5),
             narrow = half_of(kInputs, kOutputs, 6), half_bias = half_of(1, kOutputs, 10);
  const auto bias = float_of(1, kOutputs, 7), dbias = float_of(1, kOutputs, 8),
             dweight = float_of(kOutputs, kInputs, 9);
  CudaKernels& device = testing::device();
  behind_each({in.view}, [&] { device.linear_forward(out.view, in.view, weight.view, half_bias.view); });
  behind_each({out.view}, [&] { device.linear_backward_input(din.view, out.view, weight.view); });
  behind_each({in.view}, [&] { device.linear_gelu_forward(out.view, before.view, in.view, weight.view, bias.view); });
  behind_each({din.view, before.view}, [&] {
    device.linear_gelu_backward(out.view, dbias.view, din.view, narrow.view, before.view, bias.view);
    device.finish_gradients();
  });
  for (const Tensor& operand : {out.view, in.view})
    run_recorded([&] {
      device.linear_backward_weight(dweight.view, dbias.view, out.view, in.view);
      write(operand);
      device.finish_gradients();
    });
}

// A recording that reads weights, made but not run, says nothing of those that are written outside of it.
TEST(Overlap, AProductAfterARecordingIsMade) {
  const auto in = half_of(kRows, kInputs, 1), weight = half_of(kOutputs, kInputs, 2), out = half_of(kRows, kOutputs, 3);
  const auto unrounded = float_of(kOutputs, kInputs, 4);
  CudaKernels& device = testing::device();
  const auto product = [&] { device.linear_forward(out.view, in.view, weight.view, {}); };
  product();
  device.round_weights(weight.view, unrounded.view);
  const auto recorded = device.record(product);
  product();
  device.stream().synchronize();
}

TEST(Overlap, Attention) {
  constexpr std::int64_t kHeads = 2, kColumns = 52;
  for (const std::int64_t longest : {20, 70}) {
    const testing::PackedSequences packed({5, longest}, 100, 1);
    const DeviceBatch on(packed);
    const std::int64_t tokens = packed.batch.tokens;
    const auto qkv = half_of(tokens, 3 * kColumns, 1), out = half_of(tokens, kColumns, 2),
               dqkv = half_of(tokens, 3 * kColumns, 3);
    const auto part = [](const DeviceMatrix& of, std::int64_t i) { return of.view.columns(i * kColumns, kColumns); };
    const Dropout dropout{0.1f, 3, 1, 2};
    CudaKernels& device = testing::device();
    behind_each({qkv.view}, [&] {
      device.attention_forward(out.view, part(qkv, 0), part(qkv, 1), part(qkv, 2), on.batch, kHeads, 512, Queries::all,
                               dropout);
    });
    behind_each({out.view, qkv.view}, [&] {
      device.attention_backward(part(dqkv, 0), part(dqkv, 1), part(dqkv, 2), out.view, part(qkv, 0), part(qkv, 1),
                                part(qkv, 2), on.batch, kHeads, 512, Queries::all, dropout);
    });
  }
}

TEST(Overlap, Head) {
  const auto in = half_of(kRows, kInputs, 1), activated = half_of(kRows, kInputs, 2),
             pooled = half_of(kRows, kInputs, 3), first = half_of(2, kInputs, 5);
  const auto bias = float_of(1, kInputs, 6), dbias = float_of(1, kInputs, 7);
  const DeviceBatch on(testing::PackedSequences({5, kRows - 5}, 100, 1));
  CudaKernels& device = testing::device();
  const Dropout dropout{0.1f, 3, 1, 2};
  behind_each({in.view}, [&] { device.gather_first(first.view, in.view, on.batch); });
  behind_each({first.view}, [&] { device.gather_first_backward(in.view, first.view, on.batch); });
  behind_each({in.view}, [&] { device.tanh_forward(pooled.view, activated.view, in.view, bias.view, dropout); });
  behind_each({pooled.view, activated.view}, [&] {
    device.tanh_backward(in.view, dbias.view, pooled.view, activated.view, dropout);
    device.finish_gradients();
  });
}

TEST(Overlap, Optimizer) {
  const auto weight = float_of(kOutputs, kInputs, 1), gradient = float_of(kOutputs, kInputs, 2);
  const auto working = half_of(kOutputs, kInputs, 3);
  const DeviceArray<StepState> state({StepState{}});
  CudaKernels& device = testing::device();
  behind_each({weight.view}, [&] { device.round_weights(working.view, weight.view); });
  behind_each({gradient.view}, [&] { device.gradient_norm(state.data(), {{gradient.view}}); });
  const Tensor bytes{state.data(), 1, sizeof(StepState) / sizeof(float), sizeof(StepState) / sizeof(float), kFloat};
  behind_each({bytes}, [&] { device.finish_step(state.data(), {}, {}); });
}

TEST(Overlap, RowsBroughtUpToDate) {
  const auto weights = float_of(3, kInputs, 1), m = float_of(3, kInputs, 2), v = float_of(3, kInputs, 3);
  const auto working = half_of(3, kInputs, 4);
  const DeviceArray<std::int32_t> ids({0, 2}), updates({0, 0, 0});
  const DeviceArray<AdamWUpdate> schedule({AdamWUpdate{}, AdamWUpdate{}});
  const DeviceArray<StepState> state({StepState{.updates = 1}});
  const AdamWParameter table{weights.view, m.view, v.view, working.view, {}, true};
  const Tensor as_numbers{ids.data(), 1, 2, 2, kFloat};
  behind_each({as_numbers, m.view}, [&] {
    testing::device().adamw_replay(table, ids.data(), 2, updates.data(), schedule.data(), state.data());
  });
}

// Each batch takes the rows behind those of the one before it, which a kernel has counted.
TEST(Overlap, Batches) {
  for (const std::int64_t rows : {3, 300}) {
    const std::vector<std::int32_t> tokens{1, 2, 3, 2}, labels{0};
    Dataset dataset;
    for (std::int64_t row = 0; row < 4 * rows; ++row) dataset.append(tokens, labels);
    BertConfig config;
    config.labels = anonymous_labels(2);
    Batches batches(testing::device(), config, dataset);
    const BatchShape shape = batches.exact_shape(rows);
    batches.reserve({shape.tokens, shape.sequences});
    run_recorded([&] {
      batches.gather(shape);
      batches.gather(shape);
    });
  }
}

}  // namespace
}  // namespace ember
