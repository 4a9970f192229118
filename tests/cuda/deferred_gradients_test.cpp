// What finish_gradients makes of several layers at once: the values, how few launches they take, and that a recording
// repeats them. The sums one by one are in the tests of the operations.
#include <cmath>
#include <cstdint>
#include <deque>
#include <vector>

#include "runtime/cuda/check.h"
#include "runtime/cuda/device.h"
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
  Layers(std::int64_t count, std::int64_t rows, std::int64_t most, std::int64_t outputs = kUnalignedOutputs)
      : count(count),
        rows(rows),
        most(most),
        outputs(outputs),
        in(draw_halves(count * most * kInputs, 1)),
        dout(draw_halves(count * most * outputs, 2)),
        in_(kHalf, count * most, kInputs, in),
        dout_(kHalf, count * most, outputs, dout),
        dweight(kFloat, count * outputs, kInputs),
        dbias(kFloat, 1, count * outputs) {}

  // From the last to the first, as backward goes.
  void add() const {
    for (std::int64_t l = count - 1; l >= 0; --l)
      testing::device().linear_backward_weight(
          dweight.view.row_block(l * outputs, outputs), dbias.view.columns(l * outputs, outputs),
          dout_.view.row_block(l * most, rows), in_.view.row_block(l * most, rows));
  }
  void expect_results(const Results& results) const {
    std::vector<double> weights, biases;
    for (std::int64_t l = 0; l < count; ++l) {
      const auto part = [&](const std::vector<double>& values, std::int64_t cols) {
        const auto begin = values.begin() + l * most * cols;
        return std::vector<double>(begin, begin + rows * cols);
      };
      const auto expected = reference::linear_backward(part(dout, outputs), part(in, kInputs),
                                                       std::vector<double>(outputs * kInputs), rows, outputs, kInputs);
      weights.insert(weights.end(), expected.weight.begin(), expected.weight.end());
      biases.insert(biases.end(), expected.bias.begin(), expected.bias.end());
    }
    EXPECT_TRUE(testing::all_close(results[0], weights, testing::product_error(rows), 0));
    // Sums of `rows` unit normals in f32.
    EXPECT_TRUE(testing::all_close(results[1], biases, 1e-6 * static_cast<double>(rows), 0));
  }

  // Tiles of 64 and a rest, but for kAlignedOutputs.
  static constexpr std::int64_t kInputs = 72, kUnalignedOutputs = 66, kAlignedOutputs = 64;
  std::int64_t count, rows, most, outputs;
  std::vector<double> in, dout;
  DeviceMatrix in_, dout_, dweight, dbias;
};

std::int64_t launches_to_finish() {
  const std::int64_t before = launches();
  testing::device().finish_gradients();
  return launches() - before;
}

// Whether products of aligned operands are in the launch of all else.
bool joins_products() {
  testing::device();
  return starts_early();
}

// A product of more than 64 rows is Matmul's, unless ours; those of all layers are one launch, the biases another.
TEST(DeferredGradients, ManyRowsOfLayersAreOneProduct) {
  for (const std::int64_t outputs : {Layers::kUnalignedOutputs, Layers::kAlignedOutputs}) {
    const Layers layers(4, 65, 70, outputs);
    const Results results = testing::run_twice([&] {
      layers.add();
      EXPECT_EQ(launches_to_finish(), joins_products() && outputs == Layers::kAlignedOutputs ? 1 : 2);
      return device_results({&layers.dweight, &layers.dbias});
    });
    layers.expect_results(results);
  }
}

TEST(DeferredGradients, FewRowsAndColumnSumsAreOneLaunch) {
  for (const std::int64_t outputs : {Layers::kUnalignedOutputs, Layers::kAlignedOutputs})
    for (const std::int64_t rows : {1, 15, 16, 17, 64}) {
      const Layers layers(3, rows, 64, outputs);
      const Results results = testing::run_twice([&] {
        layers.add();
        EXPECT_EQ(launches_to_finish(), 1);
        return device_results({&layers.dweight, &layers.dbias});
      });
      layers.expect_results(results);
    }
}

struct Layouts {
  Layout dweight{}, dout{}, in{};
};

// A product whose operands lie as the layout of each says.
class Product {
 public:
  Product(std::int64_t rows, std::int64_t outputs, std::int64_t inputs, const Layouts& layouts = {})
      : rows_(rows),
        outputs_(outputs),
        inputs_(inputs),
        douts_(draw_halves(rows * outputs, 1)),
        ins_(draw_halves(rows * inputs, 2)),
        dout_(kHalf, rows, outputs, douts_, layouts.dout),
        in_(kHalf, rows, inputs, ins_, layouts.in),
        dweight_(kFloat, outputs, inputs, {}, layouts.dweight) {}

  void add() const { testing::device().linear_backward_weight(dweight_.view, {}, dout_.view, in_.view); }
  void expect_result() const {
    const auto expected =
        reference::linear_backward(douts_, ins_, std::vector<double>(static_cast<std::size_t>(outputs_ * inputs_)),
                                   rows_, outputs_, inputs_)
            .weight;
    EXPECT_TRUE(testing::all_close(device_results({&dweight_})[0], expected, testing::product_error(rows_), 0))
        << rows_ << " rows, " << outputs_ << " outputs, " << inputs_ << " inputs";
  }

 private:
  std::int64_t rows_, outputs_, inputs_;
  std::vector<double> douts_, ins_;
  DeviceMatrix dout_, in_, dweight_;
};

std::int64_t launches_of(const std::deque<Product>& products) {
  for (const Product& product : products) product.add();
  const std::int64_t count = launches_to_finish();
  for (const Product& product : products) product.expect_result();
  return count;
}

// Tiles with and without a rest, stages too, column blocks of wider matrices.
TEST(DeferredGradients, ProductsOfEveryShapeAreOneLaunch) {
  constexpr Layout kBlock{8, 8}, kPairs{2, 2};
  std::deque<Product> products;
  products.emplace_back(1, 8, 8);
  products.emplace_back(17, 312, 104);
  products.emplace_back(32, 64, 160, Layouts{.dout = kBlock});
  products.emplace_back(33, 128, 320, Layouts{.in = kBlock});
  products.emplace_back(65, 72, 168, Layouts{kPairs, kBlock, kBlock});
  products.emplace_back(70, 56, 152, Layouts{.dweight = kPairs});
  products.emplace_back(308, 136, 312, Layouts{.dout = {624, 312}});
  products.emplace_back(768, 8, 24);
  const std::int64_t count = launches_of(products);
  if (joins_products()) {
    EXPECT_EQ(count, 1);
  }
}

// Each twice and of another shape, for Matmul to have no batch of them.
TEST(DeferredGradients, ProductsThatAreMatmuls) {
  const Layout unaligned_rows{4, 0}, unaligned_base{0, 4}, odd{1, 1};
  for (const Layouts& layouts :
       {Layouts{.dout = unaligned_rows}, Layouts{.dout = unaligned_base}, Layouts{.in = unaligned_rows},
        Layouts{.in = unaligned_base}, Layouts{.dweight = odd}}) {
    std::deque<Product> products;
    products.emplace_back(65, 72, 16, layouts);
    products.emplace_back(65, 16, 168, layouts);
    EXPECT_EQ(launches_of(products), 2);
  }
  std::deque<Product> many_rows, odd_columns;
  many_rows.emplace_back(769, 16, 8);
  many_rows.emplace_back(769, 8, 24);
  EXPECT_EQ(launches_of(many_rows), 2);
  odd_columns.emplace_back(65, 13, 24);
  odd_columns.emplace_back(65, 24, 13);
  odd_columns.emplace_back(65, 24, 16);  // ours, beside them
  EXPECT_EQ(launches_of(odd_columns), 3);
}

// The same columns whatever else is computed with them, in whatever place.
TEST(DeferredGradients, AProductHasTheSameBitsAmongOthers) {
  const Layers alone(1, 308, 308, Layers::kAlignedOutputs), others(60, 40, 40, Layers::kAlignedOutputs);
  const auto results = [&] { return device_results({&alone.dweight, &alone.dbias}); };
  alone.add();
  const Results expected = results();
  others.add();
  alone.add();
  others.add();
  EXPECT_EQ(results(), expected);
}

// Where a layer's rows lie in memory for several layers: from the first row of layer `layer` on, every `step`-th.
struct Place {
  std::int64_t layer, step = 1;
  Tensor of(const DeviceMatrix& all, std::int64_t rows) const {
    Tensor view = all.view.row_block(layer * rows, rows);
    view.stride *= step;
    return view;
  }
  template <typename T>
  std::vector<T> of(const std::vector<T>& all, std::int64_t rows, std::int64_t cols) const {
    std::vector<T> values;
    for (std::int64_t r = 0; r < rows; ++r) {
      const auto begin = all.begin() + (layer * rows + r * step) * cols;
      values.insert(values.end(), begin, begin + cols);
    }
    return values;
  }
};
struct Places {
  Place dweight, dout, in;
};

// Two layers are a batch in which a third has no place: one of its operands, or all, lies too far away, or one has rows
// further apart.
TEST(DeferredGradients, LayersThatLieUnequallyFarApart) {
  for (const Places& third : {Places{{3}, {2}, {2}},
                              {{2}, {3}, {2}},
                              {{2}, {2}, {3}},
                              {{3}, {3}, {3}},
                              {{2, 2}, {2}, {2}},
                              {{2}, {2, 2}, {2}},
                              {{2}, {2}, {2, 2}}}) {
    const Layers layers(4, 65, 65);
    const std::int64_t rows = layers.rows, outputs = layers.outputs, inputs = Layers::kInputs;
    const Places all[] = {third, {{1}, {1}, {1}}, {{0}, {0}, {0}}};  // from the last to the first, as backward goes
    for (const Places& layer : all)
      testing::device().linear_backward_weight(layer.dweight.of(layers.dweight, outputs), {},
                                               layer.dout.of(layers.dout_, rows), layer.in.of(layers.in_, rows));
    EXPECT_EQ(launches_to_finish(), 2);
    const std::vector<float> dweight = device_results({&layers.dweight})[0];
    for (const Places& layer : all) {
      const auto expected = reference::linear_backward(
          layer.dout.of(layers.dout, rows, outputs), layer.in.of(layers.in, rows, inputs),
          std::vector<double>(static_cast<std::size_t>(outputs * inputs)), rows, outputs, inputs);
      EXPECT_TRUE(testing::all_close(layer.dweight.of(dweight, outputs, inputs), expected.weight,
                                     testing::product_error(rows), 0));
    }
  }
}

// Operands that end where their memory does, for a sanitizer to see: what lies past the edge of a tile, of few rows, is
// in no sum.
TEST(DeferredGradients, NothingIsReadPastTheOperands) {
  constexpr std::int64_t kRows = 3, kOutputs = 5, kInputs = 7;
  const DeviceArray<__half> dout(std::vector<__half>(kRows * kOutputs, __float2half_rn(2))),
      in(std::vector<__half>(kRows * kInputs, __float2half_rn(3)));
  const DeviceMatrix dweight(kFloat, kOutputs, kInputs), dbias(kFloat, 1, kOutputs);
  testing::device().linear_backward_weight(dweight.view, dbias.view, {dout.data(), kRows, kOutputs, kOutputs, kHalf},
                                           {in.data(), kRows, kInputs, kInputs, kHalf});
  const Results results = device_results({&dweight, &dbias});
  EXPECT_EQ(results[0], std::vector<float>(kOutputs * kInputs, 2 * 3 * kRows));
  EXPECT_EQ(results[1], std::vector<float>(kOutputs, 2 * kRows));
}

// More sums than a launch's list holds.
TEST(DeferredGradients, AsManyAsThereAre) {
  for (const std::int64_t outputs : {Layers::kUnalignedOutputs, Layers::kAlignedOutputs}) {
    const Layers layers(60, 3, 3, outputs);
    layers.add();
    EXPECT_EQ(launches_to_finish(), 3);
    layers.expect_results(device_results({&layers.dweight, &layers.dbias}));
  }
}

TEST(DeferredGradients, NothingIsLaunchedForNothing) {
  testing::device().finish_gradients();
  EXPECT_EQ(launches_to_finish(), 0);
}

// What was started early, and what came after; also in a recording.
TEST(DeferredGradients, StartedOrNotTheBitsAreTheSame) {
  const Layers layers(4, 65, 70), others(2, 65, 66);
  CudaKernels& kernels = testing::device();
  const Tensor of_another_shape = layers.dbias.view, of_the_same = layers.dweight.view.row_block(0, layers.outputs);
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

// Ours that are there begin at each call, at the last one with the sums; what comes after it, at the end. In a
// recording too.
TEST(DeferredGradients, OursAreStartedInALaunch) {
  const Layers layers(4, 65, 70, Layers::kAlignedOutputs), others(2, 65, 66, Layers::kAlignedOutputs);
  if (!joins_products()) GTEST_SKIP() << "products of our own are for devices that start grids early";
  CudaKernels& kernels = testing::device();
  const Tensor of_the_same = layers.dweight.view.row_block(0, layers.outputs);
  const auto launched = [](const auto& call) {
    const std::int64_t before = launches();
    call();
    return launches() - before;
  };
  const auto backward = [&](std::int64_t first, std::int64_t last, std::int64_t end) {
    layers.add();
    EXPECT_EQ(launched([&] {
                if (first > 0) kernels.start_gradients(of_the_same);
              }),
              first);
    others.add();
    EXPECT_EQ(launched([&] {
                if (last > 0) kernels.start_gradients({});
              }),
              last);
    EXPECT_EQ(launched([&] { kernels.finish_gradients(); }), end);
  };
  const auto results = [&] { return device_results({&layers.dweight, &layers.dbias, &others.dweight, &others.dbias}); };
  backward(0, 0, 1);
  const Results plain = results();
  backward(1, 0, 1);
  EXPECT_EQ(results(), plain);
  backward(0, 1, 0);
  EXPECT_EQ(results(), plain);
  backward(1, 1, 0);
  EXPECT_EQ(results(), plain);
  const auto recorded = kernels.record([&] { backward(1, 1, 0); });
  recorded->run();
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
