// CudaKernels::head_* against the CPU backend's, with the bound of a twin: the definition by tanh and products
// (Kernels' own) on the device, each of which is held to its oracle.
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/cuda/cuda_support.h"

namespace ember {
namespace {

using namespace testing;

struct HeadCase {
  std::string name;
  std::int64_t rows, cols, labels;
  float probability = 0.1f;
  bool biased = true;
  Layout layout = {};  // of all activations
};

const HeadCase kHeadCases[] = {
    {"empty", 0, 312, 28},
    {"one_row", 1, 312, 28},
    {"tinybert", 16, 312, 28, 0.1f, true, {8, 8}},
    {"many_rows", 130, 64, 5},
    {"without_dropout_or_bias", 3, 384, 28, 0, false},
    {"odd", 5, 13, 3, 0.5f, true, {3, 1}},
    {"misaligned", 5, 312, 28, 0.1f, true, {2, 1}},
    {"as_large_as_one_kernel_takes", 2, 1024, 64},
    {"too_many_labels", 2, 312, 65},
    {"too_many_columns", 2, 1032, 3},
};

class Head : public ::testing::TestWithParam<HeadCase> {
 protected:
  const std::int64_t rows = GetParam().rows, cols = GetParam().cols, labels = GetParam().labels;
  const Layout layout = GetParam().layout;
  const Dropout dropout{GetParam().probability, 0x123456789abcdef0u, 0x500, 3};
  const std::vector<double> in = draw_halves(rows * cols, 1), bias = draw(cols, 2),
                            weight = draw_halves(labels * cols, 3, 0.1f), weight_bias = draw(labels, 4),
                            dlogits = draw_halves(rows * labels, 5);

  // logits, pooled, activated, din, dbias; backward from what the CPU's forward leaves in f16
  Results run(bool by_definition, const std::vector<float>& saved) const {
    const DeviceMatrix in_(kHalf, rows, cols, in, layout), bias_(kFloat, 1, cols, bias),
        weight_(kHalf, labels, cols, weight), weight_bias_(kFloat, 1, labels, weight_bias),
        dlogits_(kHalf, rows, labels, dlogits, layout), saved_(kHalf, rows, cols, doubles(saved), layout),
        logits(kFloat, rows, labels), pooled(kHalf, rows, cols, {}, layout), activated(kHalf, rows, cols, {}, layout),
        din(kHalf, rows, cols, {}, layout), dbias(kFloat, 1, cols);
    CudaKernels& device = testing::device();
    const Tensor added = GetParam().biased ? weight_bias_.view : Tensor{};
    if (by_definition) {
      device.Kernels::head_forward(logits.view, pooled.view, activated.view, in_.view, bias_.view, weight_.view, added,
                                   dropout);
      device.Kernels::head_backward(din.view, dbias.view, dlogits_.view, saved_.view, weight_.view, dropout);
    } else {
      device.head_forward(logits.view, pooled.view, activated.view, in_.view, bias_.view, weight_.view, added, dropout);
      device.head_backward(din.view, dbias.view, dlogits_.view, saved_.view, weight_.view, dropout);
    }
    return device_results({&logits, &pooled, &activated, &din, &dbias});
  }
  Results cpu() const {
    const StridedMatrix in_(rows, cols, 0, in), bias_(1, cols, 0, bias), weight_(labels, cols, 0, weight),
        weight_bias_(1, labels, 0, weight_bias), dlogits_(rows, labels, 0, dlogits), logits(rows, labels, 0),
        pooled(rows, cols, 0), activated(rows, cols, 0), din(rows, cols, 0), dbias(1, cols, 0);
    const auto kernels = make_cpu_kernels(Precision::fp32, 1);
    kernels->head_forward(logits.view, pooled.view, activated.view, in_.view, bias_.view, weight_.view,
                          GetParam().biased ? weight_bias_.view : Tensor{}, dropout);
    const StridedMatrix stored(rows, cols, 0, doubles(testing::to_halves(activated.values())));
    kernels->head_backward(din.view, dbias.view, dlogits_.view, stored.view, weight_.view, dropout);
    return testing::results({&logits, &pooled, &activated, &din, &dbias});
  }
};

TEST_P(Head, AgreesWithTheCpuAndRepeatsItsBits) {
  const Results expected = cpu();
  const Results actual = testing::run_twice([&] { return run(false, expected[2]); }), twin = run(true, expected[2]);
  const char* const names[] = {"logits", "pooled", "activated", "din", "dbias"};
  for (std::size_t i = 0; i < expected.size(); ++i)
    EXPECT_TRUE(near_twin(actual[i], twin[i], doubles(expected[i]), 1e-6 * static_cast<double>(1 + rows))) << names[i];
}

INSTANTIATE_TEST_SUITE_P(Shapes, Head, ::testing::ValuesIn(kHeadCases),
                         [](const auto& tested) { return tested.param.name; });

// By a weight that picks one column for each label.
TEST(HeadValues, LogitsAreOfThePooledNumbersAsTheyAreStored) {
  constexpr std::int64_t kRows = 33;
  const Dropout dropout{0.1f, 0x123456789abcdef0u, 0x500, 3};
  for (const std::int64_t cols : {12, 13}) {
    std::vector<double> identity(static_cast<std::size_t>(cols * cols));
    for (std::int64_t c = 0; c < cols; ++c) identity[static_cast<std::size_t>(c * cols + c)] = 1;
    const DeviceMatrix in(kHalf, kRows, cols, draw_halves(kRows * cols, 1)), bias(kFloat, 1, cols, draw(cols, 2)),
        weight(kHalf, cols, cols, identity), logits(kFloat, kRows, cols), pooled(kHalf, kRows, cols),
        activated(kHalf, kRows, cols);
    testing::device().head_forward(logits.view, pooled.view, activated.view, in.view, bias.view, weight.view, {},
                                   dropout);
    EXPECT_EQ(logits.values(), pooled.values());
  }
}

TEST(HeadShapes, WrongOnesAreRefused) {
  const DeviceMatrix a(kHalf, 2, 4), b(kHalf, 3, 4), weight(kHalf, 5, 4), logits(kFloat, 2, 5), dlogits(kHalf, 2, 5),
      vector(kFloat, 1, 4), longer(kFloat, 1, 5);
  CudaKernels& device = testing::device();
  const Tensor x = a.view, v = vector.view, w = weight.view;
  EXPECT_THROW(device.head_forward(logits.view, x, x, b.view, v, w, longer.view, {}), std::logic_error);
  EXPECT_THROW(device.head_forward(logits.view, x, x, x, longer.view, w, longer.view, {}), std::logic_error);
  EXPECT_THROW(device.head_forward(dlogits.view, x, x, x, v, w, longer.view, {}), std::logic_error);
  EXPECT_THROW(device.head_forward(logits.view, x, x, x, v, w, v, {}), std::logic_error);
  EXPECT_THROW(device.head_backward(x, longer.view, dlogits.view, x, w, {}), std::logic_error);
  EXPECT_THROW(device.head_backward(x, v, x, x, w, {}), std::logic_error);
  EXPECT_THROW(device.head_backward(b.view, v, dlogits.view, x, w, {}), std::logic_error);
}

}  // namespace
}  // namespace ember
