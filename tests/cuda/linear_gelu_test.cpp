// CudaKernels::linear_gelu_* against their definition by products and GELU (Kernels' own) on the device: the same bits,
// but for column sums, whose parts have other rows. And against the CPU backend's.
#include <cstdint>
#include <string>
#include <vector>

#include "tests/cuda/cuda_support.h"
#include "tests/reference/gelu.h"
#include "tests/reference/linear.h"

namespace ember {
namespace {

using namespace testing;

// Of the layer before GELU: in (M, I), activated (M, F). Behind it is a layer whose output is (M, I) again.
struct LinearGeluCase {
  std::string name;
  std::int64_t rows, inputs, features;
  Layout layout = {};  // of all activations
};

// At the edges of the ways to divide a block (which of them, the device's multiprocessors say), and some that one
// kernel does not serve.
const LinearGeluCase kLinearGeluCases[] = {
    {"empty", 0, 312, 1200},
    {"one_row", 1, 312, 1200},
    {"sixteen_rows", 16, 312, 1200, {8, 8}},
    {"seventeen_rows", 17, 312, 104},
    {"a_block_and_a_row", 33, 312, 104},
    {"many_columns", 33, 312, 1200},
    {"many_inputs", 33, 1200, 312, {8, 8}},
    {"many_inputs_in_more_blocks", 66, 1200, 312},
    {"few_inputs", 70, 8, 16},
    {"more_than_the_device_holds", 700, 64, 1208},
    {"odd", 5, 13, 30, {3, 1}},
    {"misaligned", 5, 312, 64, {2, 1}},
};

class LinearGelu : public ::testing::TestWithParam<LinearGeluCase> {
 protected:
  const std::int64_t rows = GetParam().rows, inputs = GetParam().inputs, features = GetParam().features;
  const Layout layout = GetParam().layout;
  const std::vector<double> in = draw_halves(rows * inputs, 1), weight = draw_halves(features * inputs, 2, 0.1f),
                            bias = draw(features, 3), dout = draw_halves(rows * inputs, 4),
                            next_weight = draw_halves(inputs * features, 5, 0.1f);

  // out, before, din, dbias; backward from `before` as the CPU's forward leaves it in f16
  Results run(bool by_definition, const std::vector<float>& saved) const {
    const DeviceMatrix in_(kHalf, rows, inputs, in, layout), weight_(kHalf, features, inputs, weight),
        bias_(kFloat, 1, features, bias), dout_(kHalf, rows, inputs, dout, layout),
        next_(kHalf, inputs, features, next_weight), saved_(kHalf, rows, features, doubles(saved), layout),
        out(kHalf, rows, features, {}, layout), before(kHalf, rows, features, {}, layout),
        din(kHalf, rows, features, {}, layout), dbias(kFloat, 1, features);
    CudaKernels& device = testing::device();
    if (by_definition) {
      device.Kernels::linear_gelu_forward(out.view, before.view, in_.view, weight_.view, bias_.view);
      device.Kernels::linear_gelu_backward(din.view, dbias.view, dout_.view, next_.view, saved_.view, bias_.view);
    } else {
      device.linear_gelu_forward(out.view, before.view, in_.view, weight_.view, bias_.view);
      device.linear_gelu_backward(din.view, dbias.view, dout_.view, next_.view, saved_.view, bias_.view);
    }
    return device_results({&out, &before, &din, &dbias});
  }
  Results cpu() const {
    const StridedMatrix in_(rows, inputs, 0, in), weight_(features, inputs, 0, weight), bias_(1, features, 0, bias),
        dout_(rows, inputs, 0, dout), next_(inputs, features, 0, next_weight), out(rows, features, 0),
        before(rows, features, 0), din(rows, features, 0), dbias(1, features, 0);
    const auto kernels = make_cpu_kernels(Precision::fp32, 1);
    kernels->linear_gelu_forward(out.view, before.view, in_.view, weight_.view, bias_.view);
    const StridedMatrix stored(rows, features, 0, doubles(testing::to_halves(before.values())));
    kernels->linear_gelu_backward(din.view, dbias.view, dout_.view, next_.view, stored.view, bias_.view);
    return testing::results({&out, &before, &din, &dbias});
  }
  // By the oracles in float, rounded to f16 where the device stores it.
  Results twin(const std::vector<float>& saved) const {
    const auto before =
        to_halves(reference::linear_forward<float>(floats(in), floats(weight), {}, rows, features, inputs));
    const auto out = to_halves(reference::gelu_forward<float>(before, floats(bias)));
    const auto dactivated = to_halves(
        reference::linear_backward<float>(floats(dout), before, floats(next_weight), rows, inputs, features).in);
    const auto gradients = reference::gelu_backward<float>(dactivated, to_halves(saved), floats(bias));
    return {out, before, to_halves(gradients.in), gradients.bias};
  }
};

TEST_P(LinearGelu, HasTheBitsOfItsPartsAndAgreesWithTheCpu) {
  const Results expected = cpu(), near = twin(expected[1]);
  const Results actual = testing::run_twice([&] { return run(false, expected[1]); }), parts = run(true, expected[1]);
  const char* const names[] = {"out", "before", "din", "dbias"};
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (i < 3) {
      EXPECT_EQ(actual[i], parts[i]) << names[i];
    }
    EXPECT_TRUE(near_twin(actual[i], near[i], doubles(expected[i]), 1e-6 * static_cast<double>(1 + rows))) << names[i];
  }
}

TEST_P(LinearGelu, MayBeWhereTheProductWas) {
  const DeviceMatrix in_(kHalf, rows, inputs, in, layout), weight_(kHalf, features, inputs, weight),
      bias_(kFloat, 1, features, bias), out(kHalf, rows, features, {}, layout),
      before(kHalf, rows, features, {}, layout);
  testing::device().linear_gelu_forward(out.view, before.view, in_.view, weight_.view, bias_.view);
  testing::device().linear_gelu_forward(before.view, before.view, in_.view, weight_.view, bias_.view);
  EXPECT_EQ(device_results({&out}), device_results({&before}));
}

INSTANTIATE_TEST_SUITE_P(Shapes, LinearGelu, ::testing::ValuesIn(kLinearGeluCases),
                         [](const auto& tested) { return tested.param.name; });

TEST(LinearGeluShapes, WrongOnesAreRefused) {
  const DeviceMatrix in(kHalf, 3, 4), weight(kHalf, 5, 4), out(kHalf, 3, 5), narrow(kHalf, 3, 3), bias(kFloat, 1, 5),
      shorter(kFloat, 1, 4);
  CudaKernels& device = testing::device();
  EXPECT_NO_THROW(device.linear_gelu_forward(out.view, out.view, in.view, weight.view, bias.view));
  EXPECT_THROW(device.linear_gelu_forward(narrow.view, out.view, in.view, weight.view, bias.view), std::logic_error);
  EXPECT_THROW(device.linear_gelu_forward(out.view, narrow.view, in.view, weight.view, bias.view), std::logic_error);
  EXPECT_THROW(device.linear_gelu_forward(out.view, out.view, in.view, weight.view, shorter.view), std::logic_error);
  const Tensor back = in.view, forth = out.view, w = weight.view;
  EXPECT_THROW(device.linear_gelu_backward(back, bias.view, forth, w, back, shorter.view), std::logic_error);
  EXPECT_THROW(device.linear_gelu_backward(back, shorter.view, forth, w, forth, shorter.view), std::logic_error);
  EXPECT_THROW(device.linear_gelu_backward(forth, shorter.view, forth, w, back, shorter.view), std::logic_error);
}

}  // namespace
}  // namespace ember
