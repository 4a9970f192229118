// The squares that finish_gradients sums for gradient_norm: their values, whose they are, and when they serve. Those of
// the embeddings' tables are in embeddings_test.cpp, a whole step's in training_test.cpp.
#include "kernels/cuda/gradient_squares.h"

#include <deque>
#include <utility>

#include "runtime/cuda/device.h"
#include "tests/cuda/norm_of_finished.h"

namespace ember {
namespace {

using namespace testing;

// A linear layer's gradients. Outputs that come by eight are for products of our own.
constexpr std::int64_t kInputs = 72, kAligned = 64, kUnaligned = 66;
struct Layer {
  Layer(std::int64_t rows, std::int64_t outputs)
      : in(kHalf, rows, kInputs, draw_halves(rows * kInputs, 1)),
        dout(kHalf, rows, outputs, draw_halves(rows * outputs, 2)),
        dweight(kFloat, outputs, kInputs),
        dbias(kFloat, 1, outputs) {}
  void add() const { device().linear_backward_weight(dweight.view, dbias.view, dout.view, in.view); }

  DeviceMatrix in, dout, dweight, dbias;
};

bool by_matmul(std::int64_t rows, std::int64_t outputs) {
  device();
  return rows > 64 && !(starts_early() && outputs == kAligned);
}

// Few rows, columns and, where kernels start early, products of many rows; with a rest or without; in one launch or in
// several, of which the first may have begun before.
TEST(GradientSquares, GiveTheNorm) {
  for (const std::int64_t outputs : {kUnaligned, kAligned})
    for (const std::int64_t rows : {1, 17, 65}) {
      const Layer first(rows, outputs), second(rows, outputs);
      const auto backward = [&] {
        first.add();
        device().start_gradients({});
        second.add();
        device().finish_gradients();
        return expect_norm_of({&second.dbias, &first.dweight, &first.dbias, &second.dweight}).gradient_norm;
      };
      const float norm = backward();
      EXPECT_EQ(backward(), norm) << "a repetition gives other bits";
      const std::vector<Tensor> all{first.dweight.view, first.dbias.view, second.dweight.view, second.dbias.view};
      EXPECT_EQ(reads_again(first.dbias, all), by_matmul(rows, outputs)) << rows << " rows, " << outputs << " outputs";
    }
}

// More than a launch's list holds.
TEST(GradientSquares, OfManyLaunches) {
  std::deque<Layer> layers;
  std::vector<Tensor> all;
  for (int l = 0; l < 60; ++l) {
    const Layer& layer = layers.emplace_back(3, kUnaligned);
    layer.add();
    all.insert(all.end(), {layer.dweight.view, layer.dbias.view});
  }
  device().finish_gradients();
  const float norm = norm_of(all).gradient_norm;
  EXPECT_FALSE(reads_again(layers.back().dweight, all));
  layers.front().add();
  device().finish_gradients();
  const float of_one = expect_norm_of({&layers.front().dweight, &layers.front().dbias}).gradient_norm;
  const float expected = of_one * std::sqrt(60.0f);  // each has the same operands
  EXPECT_NEAR(norm, expected, 2 * kNormRounding * expected);
}

// Others than those that were finished are read: fewer, more, as many elsewhere.
TEST(GradientSquares, ServeTheirOwnGradientsAlone) {
  const Layer layer(17, kUnaligned), other(17, kUnaligned);
  const auto finish = [](const Layer& of) {
    of.add();
    device().finish_gradients();
  };
  finish(other);
  finish(layer);
  expect_norm_of({&layer.dweight});
  EXPECT_TRUE(reads_again(other.dbias, {layer.dweight.view, other.dbias.view}));
  EXPECT_TRUE(reads_again(other.dbias, {layer.dweight.view, layer.dbias.view, other.dbias.view}));
  EXPECT_TRUE(reads_again(layer.dbias, {layer.dweight.view, vector(layer.dbias.view.data, 8)})) << "a part of one";
  const std::vector<Tensor> all{layer.dweight.view, layer.dbias.view};
  EXPECT_FALSE(reads_again(layer.dbias, all));
  device().finish_gradients();
  EXPECT_TRUE(reads_again(layer.dbias, all)) << "they were not finished last";
}

// No norm is of these alone, so the launches that compute them do not sum their squares.
TEST(GradientSquares, OfWhatIsFinishedBesideMatmulsServeNobody) {
  const Layer layer(65, kUnaligned);
  for (const bool started : {false, true}) {
    layer.add();
    if (started) device().start_gradients({});
    device().finish_gradients();
    EXPECT_TRUE(reads_again(layer.dbias, {layer.dbias.view})) << (started ? "started" : "finished");
  }
}

// As many elements, one of them counted twice and another not at all.
TEST(GradientSquares, OfTheSameGradientTwiceServeNobody) {
  const DeviceMatrix gradient(kFloat, 1, 5, {1, 2, 3, 4, 5}), other(kFloat, 1, 5, {1, 2, 3, 4, 5});
  GradientSquares squares;
  squares.take(1);
  for (int i = 0; i < 2; ++i) squares.add(gradient.view);
  squares.finish();
  EXPECT_TRUE(squares.of(std::vector<Tensor>{gradient.view, other.view}).empty());
  EXPECT_TRUE(squares.of(std::vector<Tensor>{gradient.view}).empty());
}

// As many elements, from the same address on, but not the same ones.
TEST(GradientSquares, OfRowsApartServeNoOtherElements) {
  constexpr std::int64_t kRows = 3, kOutputs = 2, kCols = 8;
  const DeviceMatrix dout(kHalf, kRows, kOutputs, draw_halves(kRows * kOutputs, 1)),
      in(kHalf, kRows, kCols, draw_halves(kRows * kCols, 2)), dweight(kFloat, kOutputs, kCols, {}, {.gap = kCols});
  device().linear_backward_weight(dweight.view, {}, dout.view, in.view);
  device().finish_gradients();
  const std::vector<float> values = dweight.values();
  double sum = 0;  // of the first row; what lies between the rows is below 1e-15
  for (std::size_t i = 0; i < kCols; ++i) sum += static_cast<double>(values[i]) * values[i];
  const float norm = norm_of({vector(dweight.view.data, kOutputs * kCols)}).gradient_norm;
  EXPECT_NEAR(norm, std::sqrt(sum), kNormRounding * std::sqrt(sum));
}

TEST(GradientSquares, ShowWhatIsNotFinite) {
  for (const std::int64_t rows : {17, 65})
    for (const double bad : {static_cast<double>(INFINITY), std::nan("")}) {
      const Layer layer(rows, kAligned);
      std::vector<double> values = draw_halves(rows * kAligned, 2);
      values.back() = bad;
      const DeviceMatrix dout(kHalf, rows, kAligned, values);
      device().linear_backward_weight(layer.dweight.view, layer.dbias.view, dout.view, layer.in.view);
      device().finish_gradients();
      const std::vector<Tensor> all{layer.dweight.view, layer.dbias.view};
      EXPECT_EQ(norm_of(all).finite, 0);
      const std::vector<float> zeros(static_cast<std::size_t>(layer.dweight.view.size()));
      device().upload(layer.dweight.view.data, zeros.data(), zeros.size() * sizeof(float));
      device().upload(layer.dbias.view.data, zeros.data(), kAligned * sizeof(float));
      EXPECT_EQ(norm_of(all).finite, by_matmul(rows, kAligned) ? 1 : 0) << "only the squares still show it";
    }
}

// The largest and the least that a gradient can be which is a product of halves.
TEST(GradientSquares, NeitherOverflowNorVanish) {
  constexpr std::int64_t kOutputs = 8, kCols = 16;
  device();
  const std::int64_t most = starts_early() ? 768 : 64;
  for (const auto& [rows, half] : {std::pair{most, kLargestHalf}, {std::int64_t{1}, kSmallestHalf}}) {
    const DeviceMatrix dout(kHalf, rows, kOutputs, std::vector<double>(rows * kOutputs, half)),
        in(kHalf, rows, kCols, std::vector<double>(rows * kCols, half)), dweight(kFloat, kOutputs, kCols);
    device().linear_backward_weight(dweight.view, {}, dout.view, in.view);
    device().finish_gradients();
    const double expected = half * half * static_cast<double>(rows) * std::sqrt(kOutputs * kCols);
    EXPECT_NEAR(norm_of({dweight.view}).gradient_norm, expected, 1e-4 * expected);  // the product's own roundings
    expect_norm_of({&dweight});
    EXPECT_FALSE(reads_again(dweight, {dweight.view}));
  }
}

// A recorded norm has the squares of the finish recorded before it, whatever was recorded or finished since.
TEST(GradientSquares, OfTwoRecordings) {
  const Layer ours(17, kUnaligned), matmuls(65, kUnaligned);
  const DeviceArray<StepState> state(std::vector<StepState>(1));
  const auto step = [&](const Layer& layer) {
    layer.add();
    device().finish_gradients();
    device().gradient_norm(state.data(), std::vector<Tensor>{layer.dweight.view, layer.dbias.view});
  };
  const auto norm = [&] { return state.values()[0].gradient_norm; };
  step(ours);
  const float of_ours = norm();
  step(matmuls);
  const float of_matmuls = norm();
  EXPECT_NE(of_ours, of_matmuls);
  const auto first = device().record([&] { step(ours); }), second = device().record([&] { step(matmuls); });
  for (const bool again : {false, true}) {
    first->run();
    EXPECT_EQ(norm(), of_ours) << again;
    second->run();
    EXPECT_EQ(norm(), of_matmuls) << again;
  }
  step(ours);
  EXPECT_EQ(norm(), of_ours);
}

// ---- Room -----------------------------------------------------------------------------------------------------------

TEST(GradientSquares, TakeTheSameRoomAfterEachFinish) {
  const DeviceMatrix gradient(kFloat, 1, 5, {1, 2, 3, 4, 5});
  GradientSquares squares;
  double* begin = nullptr;
  for (int i = 0; i < 3; ++i) {
    double* first = squares.take(3);
    EXPECT_EQ(squares.take(4), first + 3);
    squares.add(gradient.view);
    squares.finish();
    const std::span<double> of = squares.of(std::vector<Tensor>{gradient.view});
    EXPECT_EQ(of.data(), first);
    EXPECT_EQ(of.size(), 7u);
    if (i > 0) {
      EXPECT_EQ(first, begin);
    }
    begin = first;
  }
}

// One less than there is room for: the norm writes one more behind them.
TEST(GradientSquares, WithoutRoomServeNobody) {
  const DeviceMatrix gradient(kFloat, 1, 5, {1, 2, 3, 4, 5});
  const std::vector<Tensor> all{gradient.view};
  constexpr auto kMost = static_cast<unsigned>(GradientSquares::kRoom - 1);
  GradientSquares squares;
  squares.add(gradient.view);
  EXPECT_NE(squares.take(kMost), nullptr);
  squares.finish();
  EXPECT_EQ(squares.of(all).size(), kMost);
  squares.add(gradient.view);
  EXPECT_NE(squares.take(1), nullptr);
  EXPECT_EQ(squares.take(kMost), nullptr);
  EXPECT_EQ(squares.take(1), nullptr) << "of no use any more";
  squares.finish();
  EXPECT_TRUE(squares.of(all).empty());
  squares.add(gradient.view);
  EXPECT_NE(squares.take(1), nullptr);
  squares.omit();
  squares.finish();
  EXPECT_TRUE(squares.of(all).empty());
  EXPECT_TRUE(squares.of({}).empty()) << "whose norm is 0";
}

}  // namespace
}  // namespace ember
