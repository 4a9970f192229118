// embeddings_forward and _backward on the device against the double oracle and CpuKernels.
#include "tests/reference/embeddings.h"

#include <gtest/gtest.h>

#include <stdexcept>

#include "runtime/cuda/check.h"
#include "tests/cuda/norm_of_finished.h"

namespace ember {
namespace {

using namespace testing;

constexpr float kEmbeddingsEpsilon = 1e-12f;
constexpr std::int64_t kTypes = 2;
// f32 sums in another order than the twin's.
constexpr double kEmbeddingsFloor = 1e-5;

struct EmbeddingsCase {
  std::string name;
  std::vector<std::int64_t> lengths;
  std::int64_t cols, vocabulary;
  float probability;
  float scale = 1;   // of the tables
  float dscale = 1;  // of the gradient
};

// Of 1, 2, 3, 1, ... tokens.
std::vector<std::int64_t> many_lengths(int sequences) {
  std::vector<std::int64_t> lengths;
  for (int i = 0; i < sequences; ++i) lengths.push_back(1 + i % 3);
  return lengths;
}

const EmbeddingsCase kEmbeddingsCases[] = {
    {"empty", {}, 312, 50, 0.1f},
    {"one_token", {1}, 312, 50, 0.0f},
    {"padding_token_only", {3, 1}, 32, 1, 0.1f},
    {"around_a_warp", {31, 1, 32, 2, 33}, 312, 40, 0.1f},
    {"around_four_warps", {127, 128, 129}, 32, 300, 0.1f},
    {"all_positions", {512, 1}, 16, 3, 0.5f},
    {"without_dropout", {19, 1, 31}, 384, 1000, 0.0f},
    {"bert", {5, 12}, 768, 20, 0.1f},
    {"many_of_one", std::vector<std::int64_t>(33, 1), 384, 4, 0.5f},
    // Rows of the tables with more than 32 tokens: a block's warps add them together.
    {"as_many_as_a_warp_adds", many_lengths(32), 132, 40, 0.1f},
    {"one_more", many_lengths(33), 312, 40, 0.0f},
    {"many_of_many", many_lengths(150), 132, 9, 0.1f},
    {"many_not_a_multiple_of_four", many_lengths(75), 27, 3, 0.1f},
    {"two_warps_a_token", {9, 2}, 388, 20, 0.1f},
    {"four_warps_a_token", {5, 1, 9}, 1000, 20, 0.1f},
    {"wider_than_registers", {9, 2}, 1032, 20, 0.1f},
    {"not_a_multiple_of_four", {33, 2}, 30, 20, 0.1f},
    {"large", {9, 2}, 312, 20, 0.1f, 9000, 12000},  // the sum of three is 60,000 at four deviations
    {"small", {9, 2}, 312, 20, 0.1f, 1e-2f, 1e-5f},
};

class Embeddings : public ::testing::TestWithParam<EmbeddingsCase> {
 protected:
  const std::int64_t cols = GetParam().cols, vocabulary = GetParam().vocabulary;
  const float scale = GetParam().scale, dscale = GetParam().dscale;
  const PackedSequences packed{GetParam().lengths, vocabulary, 7};
  const DeviceBatch on_device{packed};
  const std::int64_t rows = packed.batch.tokens;
  const std::int64_t positions = packed.batch.max_length + (packed.batch.max_length < 512 ? 3 : 0);
  const Dropout dropout{GetParam().probability, 0x123456789abcdef0u, 0x100, 3};
  const reference::Sequences sequences{packed.lengths, packed.tokens};
  const std::vector<double> dout = draw_halves(rows * cols, 6, dscale), dbranch = draw_halves(rows * cols, 7, dscale);
  const reference::Embeddings<double> oracle{draw(vocabulary * cols, 1, scale),
                                             draw(positions* cols, 2, scale / 2),
                                             draw(kTypes* cols, 3, scale / 2),
                                             {draw(cols, 4), draw(cols, 5), kEmbeddingsEpsilon},
                                             dropout};
  const reference::Embeddings<float> twin{floats(oracle.word),
                                          floats(oracle.position),
                                          floats(oracle.type),
                                          {floats(oracle.norm.weight), floats(oracle.norm.bias), kEmbeddingsEpsilon},
                                          dropout};

  // out, sum, mean, rstd
  Results forward(Layout layout) const {
    const DeviceMatrix word(kFloat, vocabulary, cols, oracle.word, layout),
        position(kFloat, positions, cols, oracle.position, layout), type(kFloat, kTypes, cols, oracle.type, layout),
        weight(kFloat, 1, cols, oracle.norm.weight), bias(kFloat, 1, cols, oracle.norm.bias);
    const DeviceMatrix out(kHalf, rows, cols, {}, layout), sum(kHalf, rows, cols, {}, layout), mean(kFloat, 1, rows),
        rstd(kFloat, 1, rows);
    testing::device().embeddings_forward(out.view, sum.view, {mean.view, rstd.view}, on_device.batch,
                                         {word.view, position.view, type.view}, {weight.view, bias.view},
                                         kEmbeddingsEpsilon, dropout);
    return device_results({&out, &sum, &mean, &rstd});
  }

  // Whose memory dsum takes.
  enum class Into { own, dout, dbranch };
  // dsum, dword, dposition, dtype, dweight, dbias; from what forward left.
  Results backward(const Results& saved, bool branch, Into into, Layout layout) const {
    const DeviceMatrix sum(kHalf, rows, cols, doubles(saved[1]), layout), mean(kFloat, 1, rows, doubles(saved[2])),
        rstd(kFloat, 1, rows, doubles(saved[3])), dout_(kHalf, rows, cols, dout, layout),
        dbranch_(kHalf, rows, cols, dbranch, layout), weight(kFloat, 1, cols, oracle.norm.weight),
        own_dsum(kHalf, rows, cols, {}, layout);
    const DeviceMatrix dword(kFloat, packed.batch.unique, cols), dposition(kFloat, positions, cols),
        dtype(kFloat, kTypes, cols), dweight(kFloat, 1, cols), dbias(kFloat, 1, cols);
    const DeviceMatrix& dsum = into == Into::own ? own_dsum : into == Into::dout ? dout_ : dbranch_;
    testing::device().embeddings_backward({dword.view, dposition.view, dtype.view}, {dweight.view, dbias.view},
                                          dsum.view, dout_.view, branch ? dbranch_.view : Tensor{}, sum.view,
                                          {mean.view, rstd.view}, on_device.batch, {weight.view, weight.view}, dropout);
    const Results results = device_results({&dsum, &dword, &dposition, &dtype, &dweight, &dbias});
    expect_norm_of({&dword, &dposition, &dtype, &dweight, &dbias});
    EXPECT_FALSE(reads_again(dtype, {dword.view, dposition.view, dtype.view, dweight.view, dbias.view}));
    return results;
  }

  Results cpu_forward() const {
    const StridedMatrix word(vocabulary, cols, 0, oracle.word), position(positions, cols, 0, oracle.position),
        type(kTypes, cols, 0, oracle.type), weight(1, cols, 0, oracle.norm.weight), bias(1, cols, 0, oracle.norm.bias),
        out(rows, cols, 0), sum(rows, cols, 0), mean(1, rows, 0), rstd(1, rows, 0);
    make_cpu_kernels(Precision::fp32, 1)
        ->embeddings_forward(out.view, sum.view, {mean.view, rstd.view}, packed.batch,
                             {word.view, position.view, type.view}, {weight.view, bias.view}, kEmbeddingsEpsilon,
                             dropout);
    return testing::results({&out, &sum, &mean, &rstd});
  }
  Results cpu_backward(const Results& saved, bool branch) const {
    const StridedMatrix sum(rows, cols, 0, doubles(saved[1])), mean(1, rows, 0, doubles(saved[2])),
        rstd(1, rows, 0, doubles(saved[3])), dout_(rows, cols, 0, dout), dbranch_(rows, cols, 0, dbranch),
        weight(1, cols, 0, oracle.norm.weight), dsum(rows, cols, 0), dword(packed.batch.unique, cols, 0),
        dposition(positions, cols, 0), dtype(kTypes, cols, 0), dweight(1, cols, 0), dbias(1, cols, 0);
    make_cpu_kernels(Precision::fp32, 1)
        ->embeddings_backward({dword.view, dposition.view, dtype.view}, {dweight.view, dbias.view}, dsum.view,
                              dout_.view, branch ? dbranch_.view : Tensor{}, sum.view, {mean.view, rstd.view},
                              packed.batch, {weight.view, weight.view}, dropout);
    return testing::results({&dsum, &dword, &dposition, &dtype, &dweight, &dbias});
  }

  void expect_forward(const Results& actual) const {
    const Results cpu = cpu_forward();
    const std::vector<float> sum = to_halves(twin.sum(sequences));
    std::vector<float> out = twin.norm.forward(sum);
    for (std::size_t i = 0; i < out.size(); ++i)
      out[i] *= reference::dropout_multiplier<float>(dropout, static_cast<std::int64_t>(i));
    const auto moments = twin.norm.statistics(sum);
    const auto exact_sum = oracle.sum(sequences);
    const auto exact = oracle.norm.statistics(exact_sum);
    EXPECT_TRUE(near_twin(actual[0], to_halves(out), oracle.forward(sequences), kEmbeddingsFloor));
    EXPECT_TRUE(near_twin(actual[1], sum, exact_sum, kSmallestHalf));
    EXPECT_TRUE(near_twin(actual[2], moments.mean, exact.mean, kEmbeddingsFloor * scale));
    EXPECT_TRUE(near_twin(actual[3], moments.rstd, exact.rstd, kEmbeddingsFloor / scale));
    EXPECT_TRUE(near_twin(actual[0], to_halves(out), doubles(cpu[0]), kEmbeddingsFloor));
    EXPECT_TRUE(near_twin(actual[1], sum, doubles(cpu[1]), kSmallestHalf));
  }

  // The gradients by a LayerNorm's backward from the stored sum, with dsum rounded when `rounded`: dsum, dword,
  // dposition, dtype, dweight, dbias.
  template <typename T>
  std::vector<std::vector<T>> gradients(const reference::Embeddings<T>& of, const Results& saved, bool branch,
                                        bool rounded) const {
    const auto gradient = reference::output_gradient(dout, branch ? dbranch : std::vector<double>{});
    std::vector<T> dy(gradient.begin(), gradient.end());
    for (std::size_t i = 0; i < dy.size(); ++i)
      dy[i] *= reference::dropout_multiplier<T>(dropout, static_cast<std::int64_t>(i));
    const auto norm = of.norm.backward(dy, std::vector<T>(saved[1].begin(), saved[1].end()));
    const std::vector<T> dsum = rounded ? to_halves(norm.x) : norm.x;
    const auto width = static_cast<std::size_t>(cols);
    std::vector<T> word(of.word.size()), position(of.position.size()), type(of.type.size());
    for (const auto& [row, place] : sequences.places())
      for (std::size_t c = 0; c < width; ++c) {
        word[static_cast<std::size_t>(sequences.tokens[row]) * width + c] += dsum[row * width + c];
        position[place * width + c] += dsum[row * width + c];
        type[c] += norm.x[row * width + c];
      }
    std::vector<T> unique;
    for (const std::int32_t id : packed.unique_ids)
      unique.insert(unique.end(), word.begin() + id * cols, word.begin() + (id + 1) * cols);
    return {dsum, unique, position, type, norm.weight, norm.bias};
  }

  void expect_backward(const Results& saved, const Results& actual, bool branch) const {
    const auto twins = gradients(twin, saved, branch, true);
    const auto exact = gradients(oracle, saved, branch, false);
    const Results cpu = cpu_backward(saved, branch);
    const double sum_floor = kEmbeddingsFloor * dscale * (1 + std::sqrt(static_cast<double>(rows)));
    for (std::size_t i = 0; i < actual.size(); ++i) {
      const double floor = (i < 4 ? sum_floor / scale : sum_floor) + kSmallestHalf;
      EXPECT_TRUE(near_twin(actual[i], twins[i], exact[i], floor)) << "result " << i;
      EXPECT_TRUE(near_twin(actual[i], twins[i], doubles(cpu[i]), floor)) << "result " << i;
    }
  }
};

TEST_P(Embeddings, AgreesWithTheOracleAndTheCpu) {
  const Results saved = testing::run_twice([&] { return forward({}); });
  expect_forward(saved);
  for (const bool branch : {false, true})
    expect_backward(saved, testing::run_twice([&] { return backward(saved, branch, Into::own, {}); }), branch);
}

TEST_P(Embeddings, OperandsMayOverlapAndBeStrided) {
  const Results plain = forward({});
  EXPECT_EQ(plain, forward({4, 4}));
  for (const bool branch : {false, true})
    for (const Into into : {Into::dout, Into::dbranch})
      EXPECT_EQ(backward(plain, branch, Into::own, {}), backward(plain, branch, into, {8, 4}));
}

TEST_P(Embeddings, RowsMayBeMisaligned) {
  const Layout layout{3, 1};
  const Results saved = forward(layout);
  expect_forward(saved);
  for (const bool branch : {false, true}) expect_backward(saved, backward(saved, branch, Into::dout, layout), branch);
}

// All sums of a batch, the tables' among them, are one launch at the end; those of a second batch another.
TEST(EmbeddingsGradients, WaitForTheEnd) {
  constexpr std::int64_t kCols = 8;
  const PackedSequences packed({2, 3}, 10, 1);
  const DeviceBatch batch(packed);
  const std::int64_t rows = packed.batch.tokens;
  const DeviceMatrix dout(kHalf, rows, kCols, draw_halves(rows * kCols, 1)),
      sum(kHalf, rows, kCols, draw_halves(rows * kCols, 2)), ones(kFloat, 1, rows, std::vector<double>(5, 1.0)),
      weight(kFloat, 1, kCols, draw(kCols, 3));
  struct Outputs {
    explicit Outputs(std::int64_t unique) : word(kFloat, unique, kCols) {}
    DeviceMatrix word, position{kFloat, 3, kCols}, type{kFloat, kTypes, kCols}, norm_weight{kFloat, 1, kCols},
        norm_bias{kFloat, 1, kCols}, dsum{kHalf, 5, kCols};
  };
  const Outputs first(packed.batch.unique), second(packed.batch.unique);
  const std::int64_t before = launches();
  for (const Outputs* to : {&first, &second})
    testing::device().embeddings_backward(
        {to->word.view, to->position.view, to->type.view}, {to->norm_weight.view, to->norm_bias.view}, to->dsum.view,
        dout.view, {}, sum.view, {ones.view, ones.view}, batch.batch, {weight.view, weight.view}, {});
  EXPECT_EQ(launches() - before, 2);
  testing::device().finish_gradients();
  EXPECT_EQ(launches() - before, 4);
  const auto results = [](const Outputs& of) {
    return device_results({&of.word, &of.position, &of.type, &of.norm_weight, &of.norm_bias});
  };
  const Results values = results(first);
  EXPECT_EQ(values, results(second));
  for (const std::vector<float>& gradient : values)
    for (const float value : gradient) EXPECT_TRUE(std::isfinite(value));
}

INSTANTIATE_TEST_SUITE_P(Batches, Embeddings, ::testing::ValuesIn(kEmbeddingsCases),
                         [](const auto& tested) { return tested.param.name; });

TEST(EmbeddingsShapes, WrongOnesAreRefused) {
  const std::int64_t cols = 4;
  const PackedSequences packed({2, 3}, 10, 1);
  const DeviceBatch batch(packed);
  const DeviceMatrix word(kFloat, 10, cols), row(kFloat, 1, cols), position(kFloat, 3, cols),
      few_positions(kFloat, 2, cols), out(kHalf, 5, cols), sum(kHalf, 5, cols), moments(kFloat, 1, 5),
      few_rows(kHalf, 4, cols);
  const LayerNormTensors norm{row.view, row.view};
  const auto forward = [&](const DeviceMatrix& to, const DeviceMatrix& positions) {
    testing::device().embeddings_forward(to.view, sum.view, {moments.view, moments.view}, batch.batch,
                                         {word.view, positions.view, row.view}, norm, kEmbeddingsEpsilon, {});
  };
  EXPECT_NO_THROW(forward(out, position));
  EXPECT_THROW(forward(few_rows, position), std::logic_error);
  EXPECT_THROW(forward(position, position), std::logic_error);
  EXPECT_THROW(forward(out, few_positions), std::logic_error) << "a sequence longer than the positions";
  const DeviceMatrix dword(kFloat, packed.batch.unique, cols);
  const auto backward = [&](const DeviceMatrix& words, Tensor dbranch) {
    testing::device().embeddings_backward({words.view, position.view, row.view}, norm, sum.view, out.view, dbranch,
                                          sum.view, {moments.view, moments.view}, batch.batch, norm, {});
  };
  EXPECT_THROW(backward(word, {}), std::logic_error) << "a gradient of V rows instead of U";
  EXPECT_THROW(backward(dword, few_rows.view), std::logic_error);
}

}  // namespace
}  // namespace ember
