// What finish_gradients makes of several layers at once: the values, how few launches they take, and that a recording
// repeats them. The sums one by one are in the tests of the operations.
#include <cmath>
#include <cstdint>
#include <deque>
#include <vector>

#include "runtime/cuda/check.h"
#include "runtime/cuda/graph.h"
#include "tests/cuda/cuda_support.h"
#include "tests/cuda/product_error.h"
#include "tests/reference/linear.h"

namespace ember {
namespace {

using namespace testing;

// Layers of one shape whose operands lie equally far apart in three blocks of memory, `rows` rows of the `most` there
// is room for.
struct Layers {
  Layers(std::int64_t count, std::int64_t rows, std::int64_t most)
      : count(count),
        rows(rows),
        most(most),
        in(draw_halves(count * most * kInputs, 1)),
        dout(draw_halves(count * most * kOutputs, 2)),
        in_(kHalf, count * most, kInputs, in),
        dout_(kHalf, count * most, kOutputs, dout),
        dweight(kFloat, count * kOutputs, kInputs),
        dbias(kFloat, 1, count * kOutputs) {}

  // From the last to the first, as backward goes.
  void add() const {
    for (std::int64_t l = count - 1; l >= 0; --l)
      testing::device().linear_backward_weight(
          dweight.view.row_block(l * kOutputs, kOutputs), dbias.view.columns(l * kOutputs, kOutputs),
          dout_.view.row_block(l * most, rows), in_.view.row_block(l * most, rows));
  }
  void expect_results(const Results& results) const {
    std::vector<double> weights, biases;
    for (std::int64_t l = 0; l < count; ++l) {
      const auto part = [&](const std::vector<double>& values, std::int64_t cols) {
        const auto begin = values.begin() + l * most * cols;
        return std::vector<double>(begin, begin + rows * cols);
      };
      const auto expected = reference::linear_backward(
          part(dout, kOutputs), part(in, kInputs), std::vector<double>(kOutputs * kInputs), rows, kOutputs, kInputs);
      weights.insert(weights.end(), expected.weight.begin(), expected.weight.end());
      biases.insert(biases.end(), expected.bias.begin(), expected.bias.end());
    }
    EXPECT_TRUE(testing::all_close(results[0], weights, testing::product_error(rows), 0));
    // Sums of `rows` unit normals in f32.
    EXPECT_TRUE(testing::all_close(results[1], biases, 1e-6 * static_cast<double>(rows), 0));
  }

  static constexpr std::int64_t kInputs = 72, kOutputs = 66;  // tiles of 64 and a rest
  std::int64_t count, rows, most;
  std::vector<double> in, dout;
  DeviceMatrix in_, dout_, dweight, dbias;
};

std::int64_t launches_to_finish() {
  const std::int64_t before = launches();
  testing::device().finish_gradients();
  return launches() - before;
}

// A product of more than 64 rows is Matmul's; those of all layers are one launch, the biases another.
TEST(DeferredGradients, ManyRowsOfLayersAreOneProduct) {
  const Layers layers(4, 65, 70);
  const Results results = testing::run_twice([&] {
    layers.add();
    EXPECT_EQ(launches_to_finish(), 2);
    return device_results({&layers.dweight, &layers.dbias});
  });
  layers.expect_results(results);
}

TEST(DeferredGradients, FewRowsAndColumnSumsAreOneLaunch) {
  for (const std::int64_t rows : {1, 15, 16, 17, 64}) {
    const Layers layers(3, rows, 64);
    const Results results = testing::run_twice([&] {
      layers.add();
      EXPECT_EQ(launches_to_finish(), 1);
      return device_results({&layers.dweight, &layers.dbias});
    });
    layers.expect_results(results);
  }
}

// Without the second layer, the first and the third are a batch, and the last is not the next of its steps.
TEST(DeferredGradients, LayersThatLieUnequallyFarApart) {
  const Layers layers(4, 65, 65);
  layers.add();
  layers.expect_results(device_results({&layers.dweight, &layers.dbias}));
  const std::vector<double> before = testing::doubles(layers.dweight.values());
  for (const std::int64_t l : {3, 2, 0})
    testing::device().linear_backward_weight(layers.dweight.view.row_block(l * Layers::kOutputs, Layers::kOutputs), {},
                                             layers.dout_.view.row_block(l * layers.most, layers.rows),
                                             layers.in_.view.row_block(l * layers.most, layers.rows));
  EXPECT_EQ(launches_to_finish(), 2);
  // On a GPU perhaps by another algorithm, whose sums have another order.
  EXPECT_TRUE(testing::all_close(layers.dweight.values(), before, 2 * testing::product_error(65), 0));
}

// More sums than a launch's list holds.
TEST(DeferredGradients, AsManyAsThereAre) {
  const Layers layers(40, 3, 3);
  layers.add();
  EXPECT_EQ(launches_to_finish(), 2);
  layers.expect_results(device_results({&layers.dweight, &layers.dbias}));
}

TEST(DeferredGradients, NothingIsLaunchedForNothing) {
  testing::device().finish_gradients();
  EXPECT_EQ(launches_to_finish(), 0);
}

// What was started early, and what came after; also in a recording.
TEST(DeferredGradients, StartedOrNotTheBitsAreTheSame) {
  const Layers layers(4, 65, 70), others(2, 65, 66);
  CudaKernels& kernels = testing::device();
  const Tensor of_another_shape = layers.dbias.view, of_the_same = layers.dweight.view.row_block(0, Layers::kOutputs);
  const auto backward = [&](const Tensor* later) {
    layers.add();
    if (later != nullptr) kernels.start_gradients(*later);
    others.add();
    const std::int64_t before = launches();
    kernels.finish_gradients();
    return launches() - before;
  };
  const auto results = [&] { return device_results({&layers.dweight, &layers.dbias, &others.dweight, &others.dbias}); };
  EXPECT_EQ(backward(nullptr), 3);
  const Results plain = results();
  EXPECT_EQ(backward(&of_another_shape), 2) << "the first four are not under way";
  EXPECT_EQ(results(), plain);
  EXPECT_EQ(backward(&of_the_same), 3) << "those that more are to come of are under way";
  EXPECT_EQ(results(), plain);
  const auto recorded = kernels.record([&] { backward(&of_another_shape); });
  recorded->run();
  EXPECT_EQ(results(), plain);
  // Twice, the second time all.
  layers.add();
  kernels.start_gradients(of_another_shape);
  others.add();
  kernels.start_gradients({});
  const std::int64_t before = launches();
  kernels.finish_gradients();
  EXPECT_EQ(launches() - before, 1) << "some products are not under way";
  EXPECT_EQ(results(), plain);
}

// Parts of column sums lie where they lay when the graph was recorded.
TEST(DeferredGradients, ARecordingRepeatsThem) {
  const Layers layers(2, 65, 65);
  constexpr std::int64_t kRows = 40, kCols = 30;
  const DeviceMatrix dout(kHalf, kRows, kCols, draw_halves(kRows * kCols, 1)),
      in(kHalf, kRows, kCols, draw_halves(kRows * kCols, 2)), bias(kFloat, 1, kCols, testing::draw(kCols, 3)),
      din(kHalf, kRows, kCols), dbias(kFloat, 1, kCols);
  CudaKernels& kernels = testing::device();
  const auto backward = [&] {
    layers.add();
    kernels.gelu_backward(din.view, dbias.view, dout.view, in.view, bias.view);
    kernels.finish_gradients();
  };
  const auto results = [&] { return device_results({&layers.dweight, &layers.dbias, &din, &dbias}); };
  backward();
  const Results first = results();
  const Graph graph(kernels.stream(), backward);
  for (const DeviceMatrix* output : {&layers.dweight, &layers.dbias, &din, &dbias}) {
    const std::vector<std::uint8_t> zeros(static_cast<std::size_t>(output->view.size()) * size_of(output->view.dtype));
    kernels.upload(output->view.data, zeros.data(), zeros.size());
  }
  graph.launch(kernels.stream());
  EXPECT_EQ(results(), first);
}

}  // namespace
}  // namespace ember
