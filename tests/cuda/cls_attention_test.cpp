// CudaKernels::cls_attention_* against the CPU backend's, whose operands are as exact as it needs them, with the bound
// of a twin: the definition by products and attention (Kernels' own) on the device, each of which is held to its
// oracle.
#include <cmath>
#include <cstdint>
#include <vector>

#include "tests/cuda/cuda_support.h"
#include "tests/reference/layernorm.h"

namespace ember {
namespace {

using namespace testing;

constexpr std::int64_t kClsPositions = 514;

struct ClsAttentionCase {
  std::vector<std::int64_t> lengths;
  std::int64_t heads, dim;
  float probability;
  bool biased = true;
  Layout layout = {};  // of out, first, in, din, dspread, dfirst and dout
};

const ClsAttentionCase kClsAttentionCases[] = {
    {{1}, 2, 26, 0},
    {{2}, 2, 26, 0.1f, false},
    {{31, 1, 32}, 2, 26, 0.1f, true, {2}},
    {{64, 5}, 3, 26, 0.1f},           // the longest of one kernel
    {{3, 65}, 2, 26, 0.1f},           // the shortest of two
    {{130, 1, 200, 2}, 2, 26, 0.1f},  // blocks of rows past the first
    {{19, 5, 7}, 12, 26, 0.1f},
    {{17, 90}, 2, 64, 0.1f, true, {8}},
    {{9, 33}, 3, 13, 0.1f, true, {1, 1}},  // odd everywhere
};

class ClsAttention : public ::testing::TestWithParam<int> {
 protected:
  const ClsAttentionCase shape = kClsAttentionCases[GetParam()];
  const std::int64_t cols = shape.heads * shape.dim;
  const testing::PackedSequences packed{shape.lengths, 100, 1};
  const std::int64_t tokens = packed.batch.tokens, rows = packed.batch.sequences;
  const Dropout dropout{shape.probability, 0x123456789abcdef0u, 0x201, 77};
  const std::vector<double> in = draw_halves(tokens * cols, 1),
                            weight = draw_halves(3 * cols * cols, 2, 1 / std::sqrt(static_cast<float>(cols))),
                            bias = draw_halves(3 * cols, 3), dout = draw_halves(rows * cols, 4),
                            dfirst = draw_halves(rows * cols, 5);

  // out, first, the gradient of in, dweight, dbias
  Results run(bool by_definition) const {
    const DeviceBatch batch(packed);
    const DeviceMatrix in_(kHalf, tokens, cols, in, shape.layout), weight_(kHalf, 3 * cols, cols, weight),
        bias_(kHalf, 1, 3 * cols, bias), dout_(kHalf, rows, cols, dout, shape.layout),
        dfirst_(kHalf, rows, cols, dfirst, shape.layout), out(kHalf, rows, cols, {}, shape.layout),
        first(kHalf, rows, cols, {}, shape.layout), kept(kHalf, tokens, 3 * cols), dkept(kHalf, tokens, 3 * cols),
        din(kHalf, tokens, cols, {}, shape.layout), dspread(kHalf, tokens, cols, {}, shape.layout),
        dweight(kFloat, 3 * cols, cols), dbias(kFloat, 1, 3 * cols);
    CudaKernels& device = testing::device();
    Tensor rest;
    const Tensor added = shape.biased ? bias_.view : Tensor{};
    if (by_definition) {
      device.Kernels::cls_attention_forward(out.view, first.view, kept.view, in_.view, weight_.view, added, batch.batch,
                                            shape.heads, kClsPositions, dropout);
      rest = device.Kernels::cls_attention_backward(
          din.view, dspread.view, dweight.view, dbias.view, dkept.view, dfirst_.view, dout_.view, kept.view, first.view,
          in_.view, weight_.view, added, batch.batch, shape.heads, kClsPositions, dropout);
    } else {
      device.cls_attention_forward(out.view, first.view, kept.view, in_.view, weight_.view, added, batch.batch,
                                   shape.heads, kClsPositions, dropout);
      rest = device.cls_attention_backward(din.view, dspread.view, dweight.view, dbias.view, dkept.view, dfirst_.view,
                                           dout_.view, kept.view, first.view, in_.view, weight_.view, added,
                                           batch.batch, shape.heads, kClsPositions, dropout);
    }
    const Results all = testing::device_results({&out, &first, &din, &dweight, &dbias, &kept, &dkept});
    EXPECT_TRUE(rest.empty() || rest.data == dspread.view.data);
    std::vector<float> gradient = all[2];
    if (!rest.empty()) gradient = reference::output_gradient(gradient, dspread.values());
    return {all[0], all[1], gradient, all[3], all[4]};
  }
  Results cpu() const {
    const StridedMatrix in_(tokens, cols, 0, in), weight_(3 * cols, cols, 0, weight), bias_(1, 3 * cols, 0, bias),
        dout_(rows, cols, 0, dout), dfirst_(rows, cols, 0, dfirst), out(rows, cols, 0), first(rows, cols, 0),
        kept(tokens, 3 * cols, 0), dkept(tokens, 3 * cols, 0), din(tokens, cols, 0), dweight(3 * cols, cols, 0),
        dbias(1, 3 * cols, 0);
    const auto kernels = make_cpu_kernels(Precision::fp32, 1);
    const Tensor added = shape.biased ? bias_.view : Tensor{};
    kernels->cls_attention_forward(out.view, first.view, kept.view, in_.view, weight_.view, added, packed.batch,
                                   shape.heads, kClsPositions, dropout);
    kernels->cls_attention_backward(din.view, {}, dweight.view, dbias.view, dkept.view, dfirst_.view, dout_.view,
                                    kept.view, first.view, in_.view, weight_.view, added, packed.batch, shape.heads,
                                    kClsPositions, dropout);
    return testing::results({&out, &first, &din, &dweight, &dbias});
  }
};

TEST_P(ClsAttention, AgreesWithTheCpuAndRepeatsItsBits) {
  const Results actual = testing::run_twice([&] { return run(false); }), twin = run(true), expected = cpu();
  EXPECT_EQ(actual[1], expected[1]) << "first";
  const char* const names[] = {"out", "first", "din", "dweight", "dbias"};
  for (const std::size_t i : {0u, 2u, 3u, 4u}) {
    double largest = 0;
    for (const float value : expected[i]) largest = std::max(largest, std::fabs(static_cast<double>(value)));
    EXPECT_TRUE(near_twin(actual[i], twin[i], doubles(expected[i]), std::ldexp(largest, -14) + testing::kSmallestHalf))
        << names[i];
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, ClsAttention, ::testing::Range(0, static_cast<int>(std::size(kClsAttentionCases))));

TEST(ClsAttentionEdge, AnEmptyBatchHasNoGradient) {
  const Tensor none = matrix(nullptr, 0, 52, kHalf), kept = matrix(nullptr, 0, 156, kHalf);
  const DeviceMatrix weight(kHalf, 156, 52), dweight(kFloat, 156, 52), dbias(kFloat, 1, 156);
  testing::device().cls_attention_forward(none, none, kept, none, weight.view, {}, {}, 2, 4, {});
  testing::device().cls_attention_backward(none, none, dweight.view, dbias.view, kept, none, none, kept, none, none,
                                           weight.view, {}, {}, 2, 4, {});
  for (const std::vector<float>& gradient : testing::device_results({&dweight, &dbias}))
    EXPECT_EQ(gradient, std::vector<float>(gradient.size(), 0.0f));
}

TEST(ClsAttentionEdge, WrongShapesAreRefused) {
  const testing::PackedSequences packed({5, 3}, 100, 1);
  const DeviceBatch batch(packed);
  const DeviceMatrix out(kHalf, 2, 52), in(kHalf, 8, 52), kept(kHalf, 8, 156), weight(kHalf, 156, 52),
      bias(kHalf, 1, 156);
  const auto forward = [&](Tensor to, Tensor first, Tensor held, Tensor from, Tensor product, Tensor added) {
    testing::device().cls_attention_forward(to, first, held, from, product, added, batch.batch, 2, 5, {});
  };
  const Tensor o = out.view, x = in.view, k = kept.view, w = weight.view, b = bias.view;
  EXPECT_NO_THROW(forward(o, o, k, x, w, b));
  EXPECT_THROW(forward(o.row_block(0, 1), o, k, x, w, b), std::logic_error);
  EXPECT_THROW(forward(o, o.row_block(0, 1), k, x, w, b), std::logic_error);
  EXPECT_THROW(forward(o, o, k.columns(0, 104), x, w, b), std::logic_error);
  EXPECT_THROW(forward(o, o, k, x.row_block(0, 7), w, b), std::logic_error);
  EXPECT_THROW(forward(o, o, k, x, w.row_block(0, 104), b), std::logic_error);
  EXPECT_THROW(forward(o, o, k, x, w, b.columns(0, 104)), std::logic_error);
}

}  // namespace
}  // namespace ember
